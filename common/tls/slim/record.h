/* The record layer of TLS 1.3 (RFC 8446 §5) for a session whose handshake is over: two keys and two counters
 * in place of OpenSSL's session. OpenSSL still does all cryptography. README.md is for its reviewers. */
#ifndef JACKDAW_SLIM_RECORD_H
#define JACKDAW_SLIM_RECORD_H

#include "common/base/buf.h"

#define SLIM_SECRET_MAX  48
#define SLIM_CONTENT_MAX 16384 /* bytes of content of a record (§5.1) */

struct slim_records;

enum slim_direction { SLIM_IN, SLIM_OUT };

enum slim_status {
    SLIM_OPEN,   /* data flows */
    SLIM_CLOSED, /* the peer has sent close_notify */
    SLIM_FAILED  /* what went wrong was said in *error and to the peer */
};

/* What is taken over for each direction: the traffic secret, and how many records were protected by it. */
struct slim_traffic {
    uint8_t secret[SLIM_SECRET_MAX];
    uint64_t records;
};

/* Takes over from a server's session. suite: the cipher suite's number. content_max: the most that a record
 * carries either way, SLIM_CONTENT_MAX or what was agreed in max_fragment_length (RFC 6066 §4). NULL when the
 * suite is none of RFC 8446's three or OpenSSL refuses. */
struct slim_records *slim_records_new(uint16_t suite, const struct slim_traffic traffic[2],
                                      uint16_t content_max);
void slim_records_free(struct slim_records *r);

/* Takes received bytes (all of them), appends decrypted bytes to *plain and what must be answered to *out.
 * SLIM_FAILED: *error (static text) says why, and the alert is in *out. Not to be called again after
 * SLIM_CLOSED and SLIM_FAILED. */
enum slim_status slim_records_feed(struct slim_records *r, struct span in, struct buf *plain, struct buf *out,
                                   const char **error);

/* Encrypts all of plain, appending records to *out. False when OpenSSL refuses. */
bool slim_records_write(struct slim_records *r, struct span plain, struct buf *out);

/* Appends close_notify to *out, once. */
void slim_records_close(struct slim_records *r, struct buf *out);

/* Lets the next record be sent with a new key (RFC 8446 §4.6.3); done by itself long before the limit of
 * §5.5. For tests. */
bool slim_records_update(struct slim_records *r, struct buf *out);

/* Appends one record of any content type and with any padding. For tests, which say what no peer should. */
bool slim_records_say(struct slim_records *r, uint8_t type, struct span content, size_t padding,
                      struct buf *out);

#endif

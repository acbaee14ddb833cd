/* The record layer of TLS 1.3 (RFC 8446 §5) for a session whose handshake is over: two keys and two counters
 * in place of OpenSSL's session. OpenSSL still does all cryptography. Inside the tls room; session.c decides
 * when to change over. */
#ifndef JACKDAW_TLS_RECORD_H
#define JACKDAW_TLS_RECORD_H

#include "common/tls/tls.h"

#define TLS_SECRET_MAX 48

struct tls_records;

enum tls_direction { TLS_IN, TLS_OUT };

/* What is taken over for each direction: the traffic secret, and how many records were protected by it. */
struct tls_traffic {
    uint8_t secret[TLS_SECRET_MAX];
    uint64_t records;
};

/* Takes over from a server's session. suite: the cipher suite's number. NULL when it is none of RFC 8446's
 * three or OpenSSL refuses. */
struct tls_records *tls_records_new(uint16_t suite, const struct tls_traffic traffic[2]);
void tls_records_free(struct tls_records *r);

/* As tls_feed. TLS_FAILED: *error (static text) says why, and the alert is in *out. */
enum tls_status tls_records_feed(struct tls_records *r, struct span in, struct buf *plain, struct buf *out,
                                 const char **error);

/* As tls_write. False when OpenSSL refuses. */
bool tls_records_write(struct tls_records *r, struct span plain, struct buf *out);

/* As tls_close. */
void tls_records_close(struct tls_records *r, struct buf *out);

/* Lets the next record be sent with a new key (RFC 8446 §4.6.3); done by itself long before the limit of
 * §5.5. For tests. */
bool tls_records_update(struct tls_records *r, struct buf *out);

#endif

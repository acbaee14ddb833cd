/* XMPP addresses, RFC 7622: parse, prepare (PRECIS, IDNA2008), compare, take apart. Owns libidn2 and
 * libunistring. */
#ifndef JACKDAW_JID_JID_H
#define JACKDAW_JID_JID_H

#include "common/base/buf.h"

#define JID_PART_MAX_BYTES 1023
#define JID_MAX_BYTES      3071

/* A prepared address: one normalised string "local@domain/resource" with lengths. The string is not
 * NUL-terminated and is borrowed from wherever the JID was prepared into. Absent parts have length 0. */
struct jid {
    const char *p;
    uint16_t local_n;
    uint16_t domain_n;
    uint16_t resource_n;
};

/* Parses and prepares text; appends the normalised form to *store (which owns the bytes; further appends may
 * move them, so take the JID again by jid_split when the buffer has grown). ASCII without capitals takes a
 * fast path. False (store unchanged) with *why (static, NULL allowed) when a rule of RFC 7622 §3 is broken.
 */
bool jid_prepare(struct span text, struct buf *store, struct jid *out, const char **why);

/* Takes apart an address that is known to be prepared (from Redis, from a frame). False when it can't be one:
 * empty domain, a part beyond 1023 bytes, control characters. No normalisation. */
bool jid_split(struct span text, struct jid *out);

/* Prepares one part alone (bind asks for a resource, SASL for a localpart). Appends to *store. */
bool jid_prepare_local(struct span text, struct buf *store, const char **why);
bool jid_prepare_domain(struct span text, struct buf *store, const char **why);
bool jid_prepare_resource(struct span text, struct buf *store, const char **why);

/* Appends the A-label form of a prepared domain ("xn--bcher-kva.example"), which DNS, SNI and dNSName want
 * (RFC 5890 §2.3.2.1). False (out unchanged) when DNS cannot hold it: longer than 253 bytes, or not prepared.
 */
bool jid_domain_to_ascii(struct span domain, struct buf *out);

/* Views into the string, valid as long as j->p. */
struct span jid_full(const struct jid *j);
struct span jid_bare(const struct jid *j);
struct span jid_local(const struct jid *j);
struct span jid_domain(const struct jid *j);
struct span jid_resource(const struct jid *j);

/* XEP-0106 escaping of a localpart, and back. Appends to *out. */
void jid_escape(struct span text, struct buf *out);
void jid_unescape(struct span text, struct buf *out);

#endif

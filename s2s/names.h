/* Who a peer is: names in headers and in certificates. */
#ifndef JACKDAW_S2S_NAMES_H
#define JACKDAW_S2S_NAMES_H

#include "common/base/span.h"
#include "s2s/metrics.h"

#define NS_BIDI         "urn:xmpp:bidi"
#define NS_BIDI_FEATURE "urn:xmpp:features:bidi"

struct leg;
struct tls;

enum names_verdict { NAMES_GOOD, NAMES_NO_CERT, NAMES_BAD_CHAIN, NAMES_OTHER };

/* True when text, as a peer wrote it, prepares to that domain. */
bool names_same(struct span text, struct span domain);

/* Is the peer's certificate valid, and for that domain (RFC 6120 §13.7.2)? *why says what is wrong, static or
 * of the session. */
enum names_verdict names_check(struct tls *t, struct span domain, const char **why);

/* The stream is as good as the peer's certificate from here on: when that runs out, the stream is ended (RFC
 * 6120 §13.7.2.3). */
void names_rely(struct leg *l);

/* Has the certificate that the stream relies on run out? */
bool names_expired(const struct leg *l);

/* The counter of a verdict other than good. */
enum s2s_metric names_metric(enum names_verdict verdict);

#endif

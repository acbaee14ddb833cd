#include "s2s/names.h"

#include <stdlib.h>

#include "common/base/clock.h"
#include "common/jid/jid.h"
#include "common/tls/tls.h"
#include "s2s/leg.h"

bool names_same(struct span text, struct span domain)
{
    struct buf prepared = {0};
    if (span_eq(text, domain))
        return true;
    bool same = jid_prepare_domain(text, &prepared, NULL) && span_eq(buf_span(&prepared), domain);
    buf_free(&prepared);
    return same;
}

enum names_verdict names_check(struct tls *t, struct span domain, const char **why)
{
    struct tls_peer peer;
    if (t == NULL || !tls_get_peer(t, &peer)) {
        *why = "there is none";
        return NAMES_NO_CERT;
    }
    if (!peer.verified) {
        *why = peer.why_not;
        return NAMES_BAD_CHAIN;
    }
    if (peer.by_dane) {
        *why = NULL;
        return NAMES_GOOD;
    }
    struct buf ascii = {0};
    char *plain = span_dup(domain);
    bool good =
        (jid_domain_to_ascii(domain, &ascii) && tls_peer_matches(t, buf_cstr(&ascii), "xmpp-server")) ||
        tls_peer_matches(t, plain, "xmpp-server");
    buf_free(&ascii);
    free(plain);
    *why = good ? NULL : "it is for other names";
    return good ? NAMES_GOOD : NAMES_OTHER;
}

void names_rely(struct leg *l)
{
    struct tls_peer peer;
    /* Dates mean nothing to one that DNS itself names (RFC 7671 §5.1). */
    if (tls_get_peer(l->conn.tls, &peer) && !peer.by_dane)
        l->certificate_ms = peer.expires_ms;
}

bool names_expired(const struct leg *l)
{
    return l->certificate_ms != 0 && clock_age_ms(clock_wall_ms(), l->certificate_ms) >= 0;
}

enum s2s_metric names_metric(enum names_verdict verdict)
{
    switch (verdict) {
    case NAMES_NO_CERT:
        return S2S_REFUSED_NO_CERT;
    case NAMES_BAD_CHAIN:
        return S2S_REFUSED_CERT_CHAIN;
    default:
        return S2S_REFUSED_CERT_NAME;
    }
}

/* One entry for each domain that was asked about: its document is fetched once for all who wait, a reference
 * is followed once, and the lower of the two times of expiry holds (RFC 7711 §6). */
#include "s2s/posh.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/map.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/tls/tls.h"
#include "s2s/fetch.h"
#include "s2s/metrics.h"
#include "s2s/posh_document.h"
#include "s2s/s2s.h"

#define ENTRIES_MAX  20000
#define FETCHING_MAX 256    /* domains at a time; who comes then gets no POSH */
#define KEEP_MAX_S   86400  /* a document may expire sooner, not later */
#define NONE_MS      600000 /* that there is none holds so long */
#define FAILED_MS    30000  /* and after a failure so long */
#define AGAIN_MS     60000  /* a document is asked for again after this long when it does not fit */

struct entry {
    struct list calls;
    struct posh *posh;
    char *domain;
    bool fetching; /* on_fetched will come */
    struct posh_document document;
    uint64_t until_ms;
    uint64_t fetched_ms;
    uint64_t delegated_s; /* the reference's expiry; 0 = none was followed */
    char why[96];         /* there is no document */
};

struct posh {
    struct s2s *s2s;
    struct fetcher *fetcher;
    struct map entries;
    unsigned fetching;
};

struct posh_call {
    struct list node;
    struct entry *entry;
    struct posh *posh;
    struct tls *tls;
    posh_fn *fn;
    void *ctx;
    struct timer timer; /* for an answer that is known already */
};

static uint64_t now_of(const struct posh *p)
{
    return ring_now_ms(p->s2s->ring);
}

/* ---- answers ---- */

static bool names_certificate(const struct posh_document *d, struct tls *t)
{
    for (unsigned i = 0; i < d->count; i++) {
        uint8_t hash[64];
        const struct posh_fingerprint *f = &d->fingerprints[i];
        if (tls_peer_hash(t, f->n, hash) && memcmp(hash, f->hash, f->n) == 0)
            return true;
    }
    return false;
}

static void answer(struct posh_call *c)
{
    struct entry *e = c->entry;
    enum posh_verdict verdict = POSH_NONE;
    const char *why = e->why;
    if (e->document.count > 0) {
        bool named = names_certificate(&e->document, c->tls);
        verdict = named ? POSH_VERIFIED : POSH_OTHER;
        why = named ? "" : "its POSH document names other certificates";
        metric_add(named ? S2S_POSH_VERIFIED : S2S_POSH_OTHER);
    } else {
        metric_add(S2S_POSH_NONE);
    }
    posh_fn *fn = c->fn;
    void *ctx = c->ctx;
    posh_cancel(c);
    fn(ctx, verdict, why);
}

static void on_known(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    answer(CONTAINER_OF(t, struct posh_call, timer));
}

static void settle(struct posh *p, struct entry *e, uint64_t keep_ms, const char *why)
{
    p->fetching--;
    e->fetched_ms = now_of(p);
    e->until_ms = e->fetched_ms + keep_ms;
    snprintf(e->why, sizeof e->why, "%s", why);
    /* Each answers from its own timer, as an answer may begin or cancel other calls. */
    LIST_EACH (it, &e->calls)
        ring_timer_set(p->s2s->ring, &LIST_ENTRY(it, struct posh_call, node)->timer, 0);
}

/* ---- fetching ---- */

static void on_fetched(void *ctx, enum fetch_result result, struct span body, const char *why)
{
    struct entry *e = ctx;
    struct posh *p = e->posh;
    struct posh_document *d = &e->document;
    e->fetching = false;
    if (result != FETCH_OK || !posh_document_parse(body, d, &why)) {
        log_info("s2s", "no POSH document domain=%s: %s", e->domain, why);
        settle(p, e, result == FETCH_FAILED ? FAILED_MS : NONE_MS, why);
    } else if (d->url != NULL && e->delegated_s == 0) {
        char *url = d->url;
        d->url = NULL;
        e->delegated_s = d->expires_s;
        posh_document_clear(d);
        e->fetching = true;
        fetch_start(p->fetcher, url, on_fetched, e);
        free(url);
    } else if (d->url != NULL) {
        log_info("s2s", "no POSH document domain=%s: its reference leads to another reference", e->domain);
        posh_document_clear(d);
        settle(p, e, NONE_MS, "its reference leads to another reference");
    } else {
        uint64_t keep_s = MIN(d->expires_s, (uint64_t)KEEP_MAX_S);
        keep_s = e->delegated_s > 0 ? MIN(keep_s, e->delegated_s) : keep_s;
        log_debug("s2s", "POSH document domain=%s fingerprints=%u keep_s=%llu", e->domain, d->count,
                  (unsigned long long)keep_s);
        settle(p, e, keep_s * 1000, "");
    }
}

/* The entry of a domain, with a document, without one or being fetched. NULL: too many. */
static struct entry *entry_get(struct posh *p, struct span domain)
{
    struct entry *e = map_get(&p->entries, domain);
    if (e != NULL && (e->fetching || now_of(p) < e->until_ms))
        return e;
    struct buf url = {0}, ascii = {0};
    if (p->fetching >= FETCHING_MAX || (e == NULL && p->entries.count >= ENTRIES_MAX) ||
        !jid_domain_to_ascii(domain, &ascii)) {
        buf_free(&ascii);
        return NULL;
    }
    if (e == NULL) {
        e = xcalloc(1, sizeof *e);
        e->posh = p;
        e->domain = span_dup(domain);
        list_init(&e->calls);
        map_put(&p->entries, span_of(e->domain), e);
    }
    posh_document_clear(&e->document);
    e->delegated_s = 0;
    buf_addf(&url, "https://%s:%lld/.well-known/posh/xmpp-server.json", buf_cstr(&ascii),
             (long long)p->s2s->conf->s2s_posh_port);
    p->fetching++;
    e->fetching = true;
    fetch_start(p->fetcher, buf_cstr(&url), on_fetched, e);
    buf_free(&ascii);
    buf_free(&url);
    return e;
}

/* ---- the face ---- */

struct posh_call *posh_start(struct posh *p, struct span domain, struct tls *t, posh_fn *fn, void *ctx)
{
    struct tls_peer peer;
    if (p == NULL || t == NULL || !tls_get_peer(t, &peer) || !peer.in_date)
        return NULL;
    /* A certificate that a kept document does not name may be newer than it. */
    struct entry *e = map_get(&p->entries, domain);
    if (e != NULL && e->document.count > 0 && now_of(p) >= e->fetched_ms + AGAIN_MS &&
        !names_certificate(&e->document, t))
        e->until_ms = 0;
    e = entry_get(p, domain);
    if (e == NULL) {
        metric_add(S2S_POSH_NONE);
        return NULL;
    }
    struct posh_call *c = xcalloc(1, sizeof *c);
    c->posh = p;
    c->entry = e;
    c->tls = t;
    c->fn = fn;
    c->ctx = ctx;
    c->timer.fire = on_known;
    list_add(&e->calls, &c->node);
    if (!e->fetching)
        ring_timer_set(p->s2s->ring, &c->timer, 0);
    return c;
}

void posh_cancel(struct posh_call *call)
{
    if (call == NULL)
        return;
    ring_timer_clear(call->posh->s2s->ring, &call->timer);
    list_del(&call->node);
    free(call);
}

struct posh *posh_new(struct s2s *s)
{
    if (!s->conf->s2s_posh || s->tls == NULL)
        return NULL;
    struct fetcher *fetcher = fetcher_new(s->ring, s->conf, s->resolver);
    if (fetcher == NULL)
        return NULL;
    struct posh *p = xcalloc(1, sizeof *p);
    p->s2s = s;
    p->fetcher = fetcher;
    return p;
}

static void entry_free(struct entry *e)
{
    posh_document_clear(&e->document);
    free(e->domain);
    free(e);
}

void posh_sweep(struct posh *p)
{
    size_t at = 0, count = 0;
    struct entry *e;
    if (p == NULL || p->entries.count == 0)
        return;
    struct entry **old = xmalloc(p->entries.count * sizeof(struct entry *));
    while ((e = map_next(&p->entries, &at)) != NULL)
        if (!e->fetching && list_empty(&e->calls) && now_of(p) >= e->until_ms)
            old[count++] = e;
    for (size_t i = 0; i < count; i++) {
        map_del(&p->entries, span_of(old[i]->domain));
        entry_free(old[i]);
    }
    free(old);
}

void posh_free(struct posh *p)
{
    size_t at = 0;
    struct entry *e;
    if (p == NULL)
        return;
    while ((e = map_next(&p->entries, &at)) != NULL)
        entry_free(e);
    map_free(&p->entries);
    fetcher_free(p->fetcher);
    free(p);
}

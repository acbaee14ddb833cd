/* The error takes a place in the outbound row like any stanza that waits for an open commit; the row notes
 * the work that ends with it (struct unacked). */
#include "router/refusal.h"

#include <stdlib.h>

/* A connection manager that has 200 unhandled stanzas of a client reads no more of it, so also no
 * acknowledgement: well before, the others wait until the store has room. */
#define WAITING_MAX 100

struct refusal {
    struct core *core;
    struct reserved place;
    struct rcbuf *raw;
};

static void send(void *ctx, enum store_result result)
{
    struct refusal *r = ctx;
    if (result == STORE_OK)
        session_send_reserved(r->core, &r->place, rcbuf_span(r->raw), (struct span){NULL, 0}, true);
    rcbuf_unref(r->raw);
    free(r);
}

bool refusal_send(struct session *s, const struct stanza *stanza, uint64_t n)
{
    if (s->state != SESSION_LIVE || s->restored || !stanza_may_error(stanza) ||
        (s->sm && s->in_taken - s->in_handled > WAITING_MAX))
        return false;
    struct buf out = {0};
    stanza_add_error(&out, stanza, jid_bare(&stanza->to), STANZA_E_RESOURCE_CONSTRAINT,
                     "the server cannot store messages now");
    struct refusal *r = xcalloc(1, sizeof *r);
    r->core = s->user->core;
    r->raw = rcbuf_new(out.p, out.n);
    r->place = session_reserve_answer(s, buf_span(&out), n);
    buf_free(&out);
    user_after_commit(s->user, send, r);
    return true;
}

/* A table of what is under way: user, whom he asks and the request's id → requester and the id that he knows
 * it by. An answer takes its request out; after a minute without one the answer is made here, as for a server
 * that is silent. The table is bounded, since any component with the permission can fill it. */
#include "router/asked.h"

#include <stdlib.h>

#include "router/route.h"

#define WAIT_MS      60000
#define REQUESTS_MAX 10000

struct request {
    struct core *core;
    struct timer timer;
    char *user, *requester, *his_id;
    struct buf text;
};

/* user, whom and id, none of which can hold a NUL. */
static void make_key(struct buf *out, struct span user, struct span whom, struct span id)
{
    buf_add_span(out, user);
    buf_add_char(out, '\0');
    buf_add_span(out, whom);
    buf_add_char(out, '\0');
    buf_add_span(out, id);
}

static void forget(struct request *r)
{
    map_del(&r->core->asked.requests, buf_span(&r->text));
    timer_clear(&r->core->timers, &r->timer);
    free(r->user);
    free(r->requester);
    free(r->his_id);
    buf_free(&r->text);
    free(r);
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    struct request *r = CONTAINER_OF(t, struct request, timer);
    struct core *c = r->core;
    struct buf raw = {0};
    (void)now_ms;
    buf_add_lit(&raw, "<iq type='error'");
    xml_add_attr(&raw, "from", span_of(r->user));
    xml_add_attr(&raw, "to", span_of(r->requester));
    xml_add_attr(&raw, "id", span_of(r->his_id));
    buf_add_lit(&raw,
                "><error type='wait'><remote-server-timeout xmlns='" NS_STANZA_ERRORS "'/></error></iq>");
    forget(r);
    route_raw(c, buf_span(&raw), NULL);
    buf_free(&raw);
}

bool asked_add(struct core *c, struct span user, struct span whom, struct span id, struct span requester,
               struct span his_id)
{
    struct buf key = {0};
    make_key(&key, user, whom, id);
    if (c->asked.requests.count >= REQUESTS_MAX || map_get(&c->asked.requests, buf_span(&key)) != NULL) {
        buf_free(&key);
        return false;
    }
    struct request *r = xcalloc(1, sizeof *r);
    r->core = c;
    r->user = span_dup(user);
    r->requester = span_dup(requester);
    r->his_id = span_dup(his_id);
    r->text = key;
    r->timer.fire = on_timer;
    timer_set(&c->timers, &r->timer, c->now_ms + WAIT_MS);
    map_put(&c->asked.requests, buf_span(&r->text), r);
    return true;
}

bool asked_take(struct core *c, struct span user, struct span whom, struct span id, struct buf *requester,
                struct buf *his_id)
{
    struct buf key = {0};
    make_key(&key, user, whom, id);
    struct request *r = map_get(&c->asked.requests, buf_span(&key));
    buf_free(&key);
    if (r == NULL)
        return false;
    buf_add_str(requester, r->requester);
    buf_add_str(his_id, r->his_id);
    forget(r);
    return true;
}

void asked_free(struct core *c)
{
    struct request *r;
    size_t at = 0;
    while ((r = map_next(&c->asked.requests, &at)) != NULL) {
        forget(r);
        at = 0;
    }
    map_free(&c->asked.requests);
}

/* Operators' requests: an account that is deleted takes leave of its contacts first; then its sessions end.
 */
#include "router/control.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/text.h"
#include "common/log/log.h"
#include "common/stream/stream.h"
#include "router/feature.h"
#include "router/session.h"

struct request {
    struct core *core;
    uint64_t n;
    bool forget;
    unsigned ended;
    struct user *user; /* held, once it is done */
    char node[64];
    char jid[JID_MAX_BYTES + 1];
};

static void answer(struct core *c, const char *node, uint64_t n, uint64_t num, struct span text)
{
    struct wire_frame f = {
        .kind = WIRE_REPLY, .slot = 0xffff, .epoch = c->epoch, .n = n, .num = num, .text = text};
    c->out.send(c->out.ctx, node, &f);
}

static unsigned end_sessions(struct user *u, struct span resource, const char *why)
{
    unsigned ended = 0;
    LIST_EACH (it, &u->sessions) {
        struct session *s = LIST_ENTRY(it, struct session, of_user);
        if (resource.n > 0 && !span_eq(resource, span_of(s->resource)))
            continue;
        session_kill(s, STREAM_E_NOT_AUTHORIZED, why);
        ended++;
        if (resource.n > 0)
            break;
    }
    return ended;
}

/* What was done is written: the account may be deleted now, nothing is written behind that. */
static void acted(void *ctx, enum store_result result)
{
    struct request *r = ctx;
    struct buf out = {0};
    struct json j = {.out = &out};
    (void)result;
    json_open(&j, NULL, '{');
    json_u64(&j, "sessions_ended", r->ended);
    json_close(&j, '}');
    answer(r->core, r->node, r->n, 0, buf_span(&out));
    log_info("control", "%s jid=%s sessions_ended=%u", r->forget ? "forget" : "kick", r->jid, r->ended);
    buf_free(&out);
    user_release(r->user);
    free(r);
}

static void act(struct user *u, void *ctx, bool gone)
{
    struct request *r = ctx;
    struct jid jid;
    if (gone || !jid_split(span_of(r->jid), &jid)) {
        answer(r->core, r->node, r->n, 1 + STANZA_E_RECIPIENT_UNAVAILABLE, (struct span){NULL, 0});
        free(r);
        return;
    }
    if (r->forget && u->exists)
        feature_event(EV_USER_DELETED, u, NULL);
    r->ended = end_sessions(u, r->forget ? (struct span){NULL, 0} : jid_resource(&jid),
                            r->forget ? "the account has changed" : "ended by the operator");
    if (r->forget)
        u->exists = false; /* read again when it is next needed: an account that does not exist is not kept in
                              memory once nobody holds it */
    r->user = u;
    user_hold(u);
    user_after_commit(u, acted, r);
}

void control_frame(struct core *c, const struct wire_frame *f, const char *node)
{
    struct jid jid;
    bool forget = span_is(f->name, "forget");
    if ((!forget && !span_is(f->name, "kick")) || f->text.n > JID_MAX_BYTES || !jid_split(f->text, &jid)) {
        answer(c, node, f->n, 1 + STANZA_E_BAD_REQUEST, (struct span){NULL, 0});
        return;
    }
    struct user *u = user_get(c, jid_bare(&jid));
    if (u == NULL) {
        answer(c, node, f->n, 1 + STANZA_E_RECIPIENT_UNAVAILABLE, (struct span){NULL, 0});
        return;
    }
    struct request *r = xcalloc(1, sizeof *r);
    r->core = c;
    r->n = f->n;
    r->forget = forget;
    snprintf(r->node, sizeof r->node, "%s", node);
    snprintf(r->jid, sizeof r->jid, "%.*s", SPAN_FMT(f->text));
    user_when_ready(u, act, r);
}

/* A stanza's way through the phases: for each phase the features' hooks in their order, then what the core
 * itself does in that phase (iq routes and routing in ROUTE, iq routes and delivery in DELIVER). A hook that
 * waits blocks its user's lane, so that nothing overtakes; its answer enters the same hook again. */
#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/stats/stats.h"
#include "router/contacts.h"
#include "router/deliver.h"
#include "router/feature.h"
#include "router/pipeline.h"

static struct stat_counter ran_sent =
    STAT_COUNTER("jackdaw_router_tasks_total", "Stanzas through the pipeline", "direction=\"sent\"");
static struct stat_counter ran_received =
    STAT_COUNTER("jackdaw_router_tasks_total", "Stanzas through the pipeline", "direction=\"received\"");
static struct stat_counter rejected =
    STAT_COUNTER("jackdaw_router_rejected_total", "Stanzas answered with an error", NULL);
static struct stat_counter dropped =
    STAT_COUNTER("jackdaw_router_dropped_total", "Stanzas dropped, by rule", "rule=\"pipeline\"");

void pipeline_register_stats(void)
{
    stat_register(&ran_sent.meta);
    stat_register(&ran_received.meta);
    stat_register(&rejected.meta);
    stat_register(&dropped.meta);
}

struct session *task_session(const struct task *t)
{
    return t->sid != 0 ? session_find(t->core, t->sid) : NULL;
}

struct arena *task_arena(struct task *t)
{
    if (t->arena == NULL)
        t->arena = arena_new(2048);
    return t->arena;
}

struct xml_node *task_payload(struct task *t)
{
    const struct xml_child *payload = stanza_payload(&t->stanza);
    return payload != NULL ? xml_tree(task_arena(t), stanza_child_raw(&t->stanza, payload), NS_CLIENT) : NULL;
}

/* ---- replies ---- */

/* What a reply without a `to` in the request comes from: the account, or the domain that was asked. */
static struct span own_bare(const struct task *t)
{
    return t->user != NULL ? span_of(t->user->bare) : jid_domain(&t->stanza.to);
}

/* A reply to a stanza of an own session goes straight to it: it must not depend on any other shard. */
static void reply(struct task *t, struct span raw)
{
    struct session *s = t->sent ? task_session(t) : NULL;
    if (s != NULL) {
        session_answered(s, raw.n);
        deliver_to_session(s, raw);
    } else if (!t->sent)
        route_raw(t->core, raw, NULL);
}

void task_result(struct task *t, struct span payload)
{
    struct buf out = {0};
    if (payload.n == 0) {
        stanza_add_result(&out, &t->stanza, own_bare(t));
    } else {
        stanza_add_result_open(&out, &t->stanza, own_bare(t));
        buf_add_span(&out, payload);
        buf_add_lit(&out, "</iq>");
    }
    if (out.n > TASK_ANSWER_MAX_BYTES)
        task_error(t, STANZA_E_RESOURCE_CONSTRAINT, "the answer is too large");
    else
        reply(t, buf_span(&out));
    buf_free(&out);
}

void task_error(struct task *t, enum stanza_error error, const char *text)
{
    stat_add(&rejected, 1);
    /* Presence that its own client has sent and that nobody hears is answered, too. */
    if (t->sent ? !stanza_may_refuse(&t->stanza) : !stanza_may_error(&t->stanza))
        return;
    struct buf out = {0};
    stanza_add_error_with(&out, &t->stanza, own_bare(t), error, text, t->error_extra);
    reply(t, buf_span(&out));
    buf_free(&out);
}

enum verdict task_refuse(struct task *t, enum stanza_error error, const char *text)
{
    t->error = error;
    t->error_text = text;
    return REJECT;
}

enum verdict task_drop(struct task *t, const char *why)
{
    t->why = why;
    return DROP;
}

/* ---- keeping and ending ---- */

struct task *task_keep(struct task *t)
{
    if (t->kept)
        return t;
    struct wire_frame f;
    memset(&f, 0, offsetof(struct wire_frame, stanza));
    f.kind = WIRE_ROUTE;
    f.has_stanza = true;
    f.stanza = t->stanza;
    f.to = t->target;
    struct task *k = xmalloc(sizeof *k);
    *k = *t;
    k->kept = true;
    k->frame = xmalloc(sizeof *k->frame + wire_size(&f));
    k->frame->refs = 1;
    k->frame->n = wire_encode(&f, k->frame->data);
    CHECK(wire_decode(rcbuf_span(k->frame), &f));
    k->stanza = f.stanza;
    k->target = f.to;
    if (k->user != NULL)
        user_hold(k->user);
    t->moved = k;
    t->arena = NULL;
    return k;
}

static void finish(struct task *t)
{
    if (t->sent)
        session_work_end(t->core, t->sid, t->origin.n);
    else if (t->token != 0)
        route_done(t->core, t->node, t->token, WIRE_DONE_TAKEN);
    arena_free(t->arena);
    if (!t->kept)
        return;
    rcbuf_unref(t->frame);
    if (t->user != NULL)
        user_release(t->user);
    free(t);
}

/* ---- what the core does in ROUTE and DELIVER ---- */

static enum verdict unanswered_iq(struct task *t)
{
    bool request = t->stanza.type == STANZA_GET || t->stanza.type == STANZA_SET;
    if (!request)
        return DROP; /* a result for a request of ours (a push): nothing to do */
    t->error = STANZA_E_SERVICE_UNAVAILABLE;
    return REJECT;
}

static enum verdict run_iq(struct task *t, enum iq_to to, enum wake wake)
{
    const struct xml_child *payload = stanza_payload(&t->stanza);
    const struct iq_route *route =
        payload != NULL ? feature_iq(t->stanza.type, to, payload->ns, payload->name) : NULL;
    return route != NULL ? route->fn(t, wake) : unanswered_iq(t);
}

/* Somebody else's account. Whether it exists is known only to who may see its presence (RFC 6120 §13.11). */
static enum verdict run_other_iq(struct task *t, enum wake wake)
{
    const struct xml_child *payload = stanza_payload(&t->stanza);
    const struct iq_route *route =
        payload != NULL ? feature_iq(t->stanza.type, IQ_TO_OTHER, payload->ns, payload->name) : NULL;
    bool known = t->user->exists && contacts_may_see(t->user, jid_bare(&t->stanza.from));
    bool answers = route != NULL && (known || route->strangers == STRANGERS_ASK || wake == WAKE_REPLY);
    return answers ? route->fn(t, wake) : unanswered_iq(t);
}

static bool is_own_account(const struct task *t)
{
    const struct jid *to = &t->stanza.to;
    return to->domain_n == 0 || (to->resource_n == 0 && span_eq(jid_bare(to), span_of(t->user->bare)));
}

/* The client asks for more than it reads, or than one may have in a second: the answer would stand in others'
 * way. */
static bool asks_too_much(const struct task *t)
{
    const struct session *asker = task_session(t);
    bool request = t->stanza.type == STANZA_GET || t->stanza.type == STANZA_SET;
    return request && asker != NULL && !session_may_ask(asker);
}

static enum verdict core_route(struct task *t, enum wake wake)
{
    struct stanza *s = &t->stanza;
    bool host = s->to.domain_n > 0 && s->to.local_n == 0 && core_is_local_domain(t->core, jid_domain(&s->to));
    if (s->kind == STANZA_IQ && (host || is_own_account(t)) && wake == WAKE_FIRST && asks_too_much(t))
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "read the answers first, and ask more slowly");
    if (s->kind == STANZA_IQ && (host || is_own_account(t)))
        return run_iq(t, host ? IQ_TO_HOST : IQ_TO_ACCOUNT, wake);
    if (host && s->kind == STANZA_MESSAGE) {
        t->error = STANZA_E_SERVICE_UNAVAILABLE;
        return REJECT;
    }
    if (host)
        return DROP; /* presence to a server */
    if (s->to.domain_n == 0)
        s->to = t->user->jid; /* RFC 6120 §10.3.1: a message without `to` is for the own account */
    route_stanza(t->core, s, &t->origin);
    return DONE;
}

static enum verdict core_deliver(struct task *t, enum wake wake)
{
    struct stanza *s = &t->stanza;
    if (t->user == NULL) {
        if (s->kind == STANZA_IQ)
            return run_iq(t, IQ_TO_HOST, wake);
        t->error = STANZA_E_SERVICE_UNAVAILABLE;
        return s->kind == STANZA_MESSAGE ? REJECT : DROP;
    }
    if (s->kind == STANZA_IQ && s->to.resource_n == 0)
        return run_other_iq(t, wake);
    return deliver_task(t);
}

/* ---- the run ---- */

static const enum phase sent_phases[] = {PHASE_VALIDATE, PHASE_POLICY, PHASE_STAMP,
                                         PHASE_ARCHIVE,  PHASE_COPY,   PHASE_ROUTE};
static const enum phase received_phases[] = {PHASE_VALIDATE, PHASE_POLICY,  PHASE_STAMP,       PHASE_ARCHIVE,
                                             PHASE_COPY,     PHASE_DELIVER, PHASE_UNDELIVERED, PHASE_NOTIFY};

#define CORE_HOOK 0xff /* task.hook while the core's own part of a phase waits */

/* Hooks of one phase, then the core's part. Returns the first verdict that is not PASS. */
static enum verdict run_phase(struct task *t, enum wake wake)
{
    unsigned mask = 1u << t->stanza.kind | (t->sent ? ON_SENT : ON_RECEIVED);
    if (t->phase == PHASE_UNDELIVERED && (t->delivered || t->user == NULL))
        return PASS;
    const struct feature_hook *hook;
    while (t->hook != CORE_HOOK && (hook = feature_hook(t->phase, mask, t->hook)) != NULL) {
        /* Features act on users; what is for a domain has none, and only the core's part. */
        enum verdict v = t->user != NULL ? hook->fn(t, wake) : PASS;
        if (v != PASS)
            return v;
        wake = WAKE_FIRST;
        t->hook++;
    }
    t->hook = CORE_HOOK;
    if (t->phase == PHASE_ROUTE)
        return core_route(t, wake);
    if (t->phase == PHASE_DELIVER)
        return core_deliver(t, wake);
    return PASS;
}

static void run_from(struct task *t, unsigned step, enum wake wake)
{
    const enum phase *phases = t->sent ? sent_phases : received_phases;
    unsigned count = t->sent ? ARRAY_LEN(sent_phases) : ARRAY_LEN(received_phases);
    enum verdict v = PASS;
    for (; step < count && v == PASS; step++) {
        t->phase = phases[step];
        if (wake == WAKE_FIRST)
            t->hook = 0;
        v = run_phase(t, wake);
        wake = WAKE_FIRST;
    }
    if (v == WAIT) {
        struct task *kept = t->moved != NULL ? t->moved : t;
        CHECK(kept->kept);
        kept->step = (uint8_t)(step - 1);
        kept->phase = t->phase;
        kept->hook = t->hook;
        if (!kept->blocking && kept->user != NULL) {
            kept->blocking = true;
            user_block(kept->user);
        }
        return;
    }
    if (t->moved != NULL)
        t = t->moved; /* kept for an answer that was not needed in the end */
    if (v == REJECT)
        task_error(t, t->error, t->error_text);
    if (v == DROP) {
        stat_add(&dropped, 1);
        log_debug("pipeline", "dropped %s to=%.*s rule=%s", stanza_kind_name(t->stanza.kind),
                  SPAN_FMT(jid_full(&t->stanza.to)), t->why != NULL ? t->why : "unnamed");
    }
    struct user *blocked = t->blocking ? t->user : NULL;
    finish(t);
    if (blocked != NULL)
        user_unblock(blocked);
}

void task_run(struct task *t)
{
    stat_add(t->sent ? &ran_sent : &ran_received, 1);
    run_from(t, 0, WAKE_FIRST);
}

void task_resume(struct task *t)
{
    run_from(t, t->step, WAKE_REPLY);
}

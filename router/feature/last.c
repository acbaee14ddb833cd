/* Last activity (XEP-0012): of the host its uptime, of an account the time since its last presence, for those
 * who may see that presence. A full JID is the client's own business. */
#include "common/base/clock.h"
#include "router/contacts.h"
#include "router/feature.h"

static enum verdict answer(struct task *t, uint64_t seconds)
{
    struct buf out = {0};
    buf_addf(&out, "<query xmlns='" NS_LAST "' seconds='%llu'/>", (unsigned long long)seconds);
    task_result(t, buf_span(&out));
    buf_free(&out);
    return DONE;
}

static uint64_t seconds_since(const struct core *c, uint64_t wall_ms)
{
    return clock_elapsed_ms(c->out.wall_ms(c->out.ctx), wall_ms) / 1000;
}

static enum verdict on_host(struct task *t, enum wake wake)
{
    (void)wake;
    return answer(t, seconds_since(t->core, t->core->started_wall_ms));
}

static enum verdict on_account(struct task *t, enum wake wake)
{
    (void)wake;
    struct user *u = t->user;
    if (!u->exists || !contacts_may_see(u, jid_bare(&t->stanza.from))) {
        t->error = STANZA_E_FORBIDDEN;
        return REJECT;
    }
    if (!list_empty(&u->sessions))
        return answer(t, 0);
    if (u->last_seen_ms == 0) {
        t->error = STANZA_E_ITEM_NOT_FOUND;
        t->error_text = "nothing is known";
        return REJECT;
    }
    return answer(t, seconds_since(t->core, u->last_seen_ms));
}

const struct feature feature_last = {
    .name = "last",
    .xeps = {"0012 2.0"},
    .disco_host = {NS_LAST},
    .disco_account = {NS_LAST},
    .iqs = {{STANZA_GET, IQ_TO_HOST, NS_LAST, "query", on_host},
            {STANZA_GET, IQ_TO_ACCOUNT, NS_LAST, "query", on_account},
            {STANZA_GET, IQ_TO_OTHER, NS_LAST, "query", on_account, STRANGERS_ASK}},
};

/* vcard-temp (XEP-0054): one blob per account, outside the claim, so that it costs no memory while nobody
 * asks. Anybody may read it; a missing card of somebody else looks like a missing account (§3.3 there). */
#include "router/commit.h"
#include "router/feature.h"

#define BLOB_NAME SPAN("vcard")
#define MAX_BYTES 131072

struct get_note {
    enum store_result result;
    struct span card; /* in the arena; p NULL = none */
};

static void on_blob(void *ctx, enum store_result result, struct span value)
{
    struct task *t = ctx;
    struct get_note *note = t->reply;
    note->result = result;
    if (result == STORE_OK && value.p != NULL)
        note->card = arena_dup(task_arena(t), value);
    task_resume(t);
}

static enum verdict ask(struct task *t)
{
    t = task_keep(t);
    t->reply = arena_alloc(task_arena(t), sizeof(struct get_note));
    struct store *store = t->core->store;
    store->face->blob(store, span_of(t->user->bare), BLOB_NAME, on_blob, t);
    return WAIT;
}

static enum verdict get(struct task *t, enum wake wake, enum stanza_error missing)
{
    if (wake == WAKE_FIRST)
        return ask(t); /* also for an account that does not exist: that takes as long */
    const struct get_note *note = t->reply;
    if (note->result != STORE_OK)
        return task_refuse(t, STANZA_E_INTERNAL_SERVER_ERROR, "the server's store does not answer");
    if (note->card.p == NULL || !t->user->exists)
        return task_refuse(t, missing, NULL);
    task_result(t, note->card);
    return DONE;
}

static enum verdict on_get_own(struct task *t, enum wake wake)
{
    return get(t, wake, STANZA_E_ITEM_NOT_FOUND);
}

static enum verdict on_get_other(struct task *t, enum wake wake)
{
    return get(t, wake, STANZA_E_SERVICE_UNAVAILABLE);
}

static enum verdict on_set(struct task *t, enum wake wake)
{
    if (wake == WAKE_FIRST) {
        const struct xml_child *card = stanza_payload(&t->stanza);
        struct span raw = stanza_child_raw(&t->stanza, card);
        if (raw.n > MAX_BYTES)
            return task_refuse(t, STANZA_E_NOT_ACCEPTABLE, "a vCard may have 128 KiB at most");
        store_put_blob(user_batch(t->user), BLOB_NAME, raw);
        commit_note(t, sizeof(struct commit_note));
        if (commit_wait(t))
            return WAIT;
    }
    const struct commit_note *note = t->reply;
    if (note->result == STORE_FENCED)
        return commit_lost(t);
    if (note->result != STORE_OK)
        return task_refuse(t, STANZA_E_RESOURCE_CONSTRAINT, "the server cannot store it now");
    task_result(t, (struct span){NULL, 0});
    return DONE;
}

static enum verdict on_set_other(struct task *t, enum wake wake)
{
    (void)wake;
    return task_refuse(t, STANZA_E_FORBIDDEN, NULL);
}

const struct feature feature_vcard = {
    .name = "vcard",
    .xeps = {"0054 1.3.0"},
    .disco_host = {NS_VCARD},
    .disco_account = {NS_VCARD},
    .iqs = {{STANZA_GET, IQ_TO_ACCOUNT, NS_VCARD, "vCard", on_get_own},
            {STANZA_GET, IQ_TO_OTHER, NS_VCARD, "vCard", on_get_other, STRANGERS_ASK},
            {STANZA_SET, IQ_TO_ACCOUNT, NS_VCARD, "vCard", on_set},
            {STANZA_SET, IQ_TO_OTHER, NS_VCARD, NULL, on_set_other, STRANGERS_ASK}},
};

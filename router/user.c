/* A user comes to memory by a claim (one round trip), is changed in memory at once and written in batches,
 * one at a time: what changes while one is in flight is the next one. What must not be told before it is
 * written waits for its batch. When the store was away a batch is sent again: every write is idempotent.
 *
 * A full store refuses a batch that adds something. Whoever added to it, or to the next one, takes that back
 * in memory (last come, first back); the rest of both is the next batch, which the store takes. */
#include "router/user.h"

#include <stdlib.h>

#include "common/log/log.h"
#include "router/blocklist.h"
#include "router/contacts.h"
#include "router/finished.h"
#include "router/mailbox.h"
#include "router/parting.h"
#include "router/retell.h"
#include "router/session.h"

#define IDLE_KEEP_MS 90000 /* longer than the de-duplication window */
#define FULL_PATIENCE_MS \
    1000 /* so long a full store makes messages wait, then they are answered with an error */
#define FULL_TRY_MS 250

struct waiting {
    struct list node;
    user_fn *fn;
    void *ctx;
};

struct commit_wait {
    struct list node;
    user_commit_fn *fn;
    void *ctx;
    bool adding;
};

struct commit {
    struct user *user;
    struct store_batch batch;
    struct list waiters;
    bool sent;
    bool unsure; /* was sent and not answered: it may have been taken */
};

static void claim_done(void *ctx, enum store_result result, const struct store_user *loaded);

struct user *user_find(struct core *c, struct span bare)
{
    return map_get(&c->users, bare);
}

static bool may_own(const struct core *c, uint16_t slot)
{
    const char *owner = core_owner(c, slot);
    return owner != NULL && strcmp(owner, c->name) == 0;
}

static void claim_start(struct user *u)
{
    u->claim = (struct store_claim){u->core->epoch, u->core->incarnation, span_of(u->core->name)};
    u->core->store->face->claim(u->core->store, span_of(u->bare), &u->claim, claim_done, u);
}

struct user *user_get(struct core *c, struct span bare)
{
    struct user *u = user_find(c, bare);
    if (u != NULL)
        return u;
    uint16_t slot = c->out.slot(bare);
    struct jid jid;
    if (!may_own(c, slot) || !jid_split(bare, &jid))
        return NULL;
    u = xcalloc(1, sizeof *u);
    u->core = c;
    u->bare = span_dup(bare);
    jid_split(span_of(u->bare), &u->jid);
    u->slot = slot;
    u->state = USER_LOADING;
    u->blocks = 1;
    u->holds = 1; /* by the block, until the claim is answered */
    list_init(&u->sessions);
    list_init(&u->lane);
    list_init(&u->entries);
    list_init(&u->batch_waiters);
    list_init(&u->dirty);
    list_init(&u->idle);
    list_init(&u->stuck);
    list_init(&u->floor_node);
    map_put(&c->users, span_of(u->bare), u);
    claim_start(u);
    return u;
}

static void user_free(struct user *u)
{
    struct core *c = u->core;
    if (map_get(&c->users, span_of(u->bare)) == u)
        map_del(&c->users, span_of(u->bare));
    list_del(&u->dirty);
    list_del(&u->idle);
    list_del(&u->stuck);
    contacts_free(u);
    blocklist_free(u);
    list_del(&u->floor_node);
    LIST_EACH (it, &u->entries)
        deliver_entry_free(LIST_ENTRY(it, struct entry, node));
    finished_free(u);
    mailbox_taken_free(&u->taken[0]);
    mailbox_taken_free(&u->taken[1]);
    store_batch_free(&u->batch);
    free(u->bare);
    free(u);
}

static struct span meta_field(const struct store_user *loaded, const char *name)
{
    for (size_t i = 0; i < loaded->hash_count[STORE_META]; i++)
        if (span_is(loaded->hash[STORE_META][i].name, name))
            return loaded->hash[STORE_META][i].value;
    return (struct span){NULL, 0};
}

static void claim_done(void *ctx, enum store_result result, const struct store_user *loaded)
{
    struct user *u = ctx;
    struct core *c = u->core;
    if (result == STORE_AWAY && u->state != USER_GONE && may_own(c, u->slot)) {
        u->claim_wanted = true; /* user_store_back asks again */
        core_store_again(c);
        return;
    }
    if (result != STORE_OK || u->state == USER_GONE) {
        if (result == STORE_FENCED)
            log_info("user", "claim refused: a newer epoch owns it jid=%s epoch=%u", u->bare, c->epoch);
        user_lose(u);
        user_release(u);
        return;
    }
    u->state = USER_READY;
    u->exists = loaded->exists;
    u->last_id = loaded->mailbox_last;
    u->floor = (struct store_id){0, 0};
    store_id_parse(meta_field(loaded, "floor"), &u->floor);
    user_saw_id(u, u->floor);
    finished_load(u, loaded->hash[STORE_META], loaded->hash_count[STORE_META]);
    span_to_u64(meta_field(loaded, "roster_version"), UINT64_MAX, &u->roster_version);
    span_to_u64(meta_field(loaded, "last"), UINT64_MAX, &u->last_seen_ms);
    blocklist_load(u, meta_field(loaded, "blocked"));
    blocklist_load_changed(u, meta_field(loaded, "blocked_changed"));
    session_timed_out_load(u, meta_field(loaded, "timed_out"));
    contacts_load(u, loaded->hash[STORE_ROSTER], loaded->hash_count[STORE_ROSTER]);
    session_restore(u, loaded->hash[STORE_SESSIONS], loaded->hash_count[STORE_SESSIONS]);
    session_restore_handled(u, loaded->hash[STORE_META], loaded->hash_count[STORE_META]);
    if (!list_empty(&u->sessions)) {
        user_enter(u); /* under our claim from now on */
    } else if (u->looked_after) {
        store_present(user_batch(u), u->slot, true);
        store_present(user_batch(u), u->slot, false);
    }
    if (loaded->mailbox_count > 0)
        deliver_restore(u); /* blocks until the mailbox is read */
    else
        session_restore_check(u);
    user_unblock(u);
}

void user_enter(struct user *u)
{
    if (!u->entered)
        store_present(user_batch(u), u->slot, true);
    u->entered = true;
}

/* The lane */

void user_when_ready(struct user *u, user_fn *fn, void *ctx)
{
    if (u->state == USER_GONE) {
        fn(u, ctx, true);
        return;
    }
    if (u->blocks == 0 && list_empty(&u->lane)) {
        fn(u, ctx, false);
        return;
    }
    struct waiting *w = xcalloc(1, sizeof *w);
    w->fn = fn;
    w->ctx = ctx;
    list_init(&w->node);
    list_add(&u->lane, &w->node);
    user_hold(u);
}

static void lane_run(struct user *u)
{
    struct list *it;
    user_hold(u);
    while ((u->blocks == 0 || u->state == USER_GONE) && (it = list_pop(&u->lane)) != NULL) {
        struct waiting *w = LIST_ENTRY(it, struct waiting, node);
        w->fn(u, w->ctx, u->state == USER_GONE);
        free(w);
        user_release(u);
    }
    user_release(u);
}

void user_block(struct user *u)
{
    u->blocks++;
    user_hold(u);
}

void user_unblock(struct user *u)
{
    CHECK(u->blocks > 0);
    u->blocks--;
    if (u->blocks == 0)
        lane_run(u);
    user_release(u);
}

void user_hold(struct user *u)
{
    u->holds++;
    list_del(&u->idle);
}

/* The index of the slot keeps a user for as long as it stays in memory: most who leave come back before
 * that, and both ways would cost a call. */
static void index_leave(struct user *u)
{
    if (u->entered)
        u->core->store->face->absent(u->core->store, u->slot, span_of(u->bare), &u->claim);
    u->entered = false;
}

static void consider_idle(struct user *u)
{
    if (u->holds > 0)
        return;
    if (u->state == USER_GONE) {
        user_free(u);
        return;
    }
    if (list_empty(&u->sessions) && list_empty(&u->lane) && u->commit == NULL && list_empty(&u->dirty)) {
        if (!u->exists) { /* nothing to keep, and an account may be made at any moment */
            index_leave(u);
            user_free(u);
            return;
        }
        u->idle_since_ms = u->core->now_ms;
        list_del(&u->idle);
        list_add(&u->core->idle_users, &u->idle);
    }
}

void user_release(struct user *u)
{
    CHECK(u->holds > 0);
    u->holds--;
    consider_idle(u);
}

/* Commits */

void user_touch(struct user *u)
{
    if (u->state != USER_GONE && list_empty(&u->dirty)) {
        list_add(&u->core->dirty_users, &u->dirty);
        list_del(&u->idle);
    }
}

struct store_batch *user_batch(struct user *u)
{
    user_touch(u);
    return &u->batch;
}

static bool is_batch_open(const struct user *u)
{
    return u->batch.count > 0 || !list_empty(&u->batch_waiters);
}

bool user_commit_pending(const struct user *u)
{
    return is_batch_open(u) || u->commit != NULL || (u->finishing != NULL && !list_empty(u->finishing));
}

static void wait_for_commit(struct user *u, user_commit_fn *fn, void *ctx, bool adding)
{
    struct list *waiters = NULL;
    if (is_batch_open(u))
        waiters = &u->batch_waiters;
    else if (u->commit != NULL)
        waiters = &u->commit->waiters;
    else if (user_commit_pending(u))
        waiters = u->finishing; /* in the order in which they came */
    if (waiters == NULL) {
        fn(ctx, u->state == USER_GONE ? STORE_FENCED : STORE_OK);
        return;
    }
    struct commit_wait *w = xcalloc(1, sizeof *w);
    w->fn = fn;
    w->ctx = ctx;
    w->adding = adding;
    list_init(&w->node);
    list_add(waiters, &w->node);
}

void user_after_commit(struct user *u, user_commit_fn *fn, void *ctx)
{
    wait_for_commit(u, fn, ctx, false);
}

void user_after_adding(struct user *u, user_commit_fn *fn, void *ctx)
{
    wait_for_commit(u, fn, ctx, true);
}

static void run_waiters(struct list *waiters, enum store_result result)
{
    struct list *it;
    while ((it = list_pop(waiters)) != NULL) {
        struct commit_wait *w = LIST_ENTRY(it, struct commit_wait, node);
        w->fn(w->ctx, result);
        free(w);
    }
}

/* A full store */

bool user_store_is_full(const struct core *c)
{
    return c->full_since_ms != 0 && c->now_ms - c->full_since_ms >= FULL_PATIENCE_MS &&
           c->now_ms - c->full_last_ms < 2 * FULL_TRY_MS;
}

bool user_may_try(struct core *c)
{
    if (user_store_is_full(c) && c->now_ms < c->full_try_ms)
        return false;
    c->full_try_ms = c->now_ms + FULL_TRY_MS;
    return true;
}

static void note_full(struct core *c)
{
    c->full_last_ms = MAX(c->now_ms, 1);
    if (c->full_since_ms != 0)
        return;
    c->full_since_ms = MAX(c->now_ms, 1);
    log_error("user", "Redis has no room for messages, roster items and vCards: raise its maxmemory or free "
                      "memory; what is sent meanwhile waits a second and is answered with an error then");
}

static void note_room(struct core *c)
{
    if (c->full_since_ms == 0)
        return;
    log_info("user", "Redis has room again after_ms=%llu",
             (unsigned long long)(c->now_ms - c->full_since_ms));
    c->full_since_ms = 0;
}

/* Moves those who have added something from one list to another. */
static void pick_adding(struct list *from, struct list *to)
{
    LIST_EACH (it, from) {
        if (!LIST_ENTRY(it, struct commit_wait, node)->adding)
            continue;
        list_del(it);
        list_add(to, it);
    }
}

/* Takes back what was added, and makes one open batch of the rest of the refused one and the open one. */
static void take_back(struct user *u, struct store_batch *refused, struct list *waiters)
{
    struct list adding;
    list_init(&adding);
    pick_adding(waiters, &adding);
    pick_adding(&u->batch_waiters, &adding);
    list_splice(waiters, &u->batch_waiters);
    list_splice(&u->batch_waiters, waiters);
    store_batch_strip(refused);
    store_batch_strip(&u->batch);
    store_batch_join(refused, &u->batch);
    u->batch = *refused;
    memset(refused, 0, sizeof *refused);
    user_block(u); /* what is taken up by this waits until all is back */
    while (!list_empty(&adding)) {
        struct commit_wait *w = LIST_ENTRY(adding.prev, struct commit_wait, node);
        list_del(&w->node);
        w->fn(w->ctx, STORE_FULL);
        free(w);
    }
    user_unblock(u);
    user_touch(u);
}

/* Commits */

static void commit_free(struct commit *commit)
{
    store_batch_free(&commit->batch);
    free(commit);
}

/* Who asks meanwhile to be told after the commit comes behind these. */
static void finish(struct user *u, struct list *waiters, enum store_result result)
{
    u->finishing = waiters;
    run_waiters(waiters, result);
    u->finishing = NULL;
}

/* True when the batch is kept, to be sent again. */
static bool commit_refused(struct commit *commit)
{
    struct user *u = commit->user;
    if (commit->batch.adds == 0) {
        log_error("user",
                  "Redis refused a write for good, see the line before: it is tried again every second, "
                  "the user stands still meanwhile jid=%s",
                  u->bare);
        if (list_empty(&u->stuck))
            list_add(&u->core->stuck_users, &u->stuck);
        return true;
    }
    note_full(u->core);
    u->full = true;
    if (!commit->unsure)
        return false;
    core_store_again(u->core); /* it may stand there: nothing of it can be taken back */
    return true;
}

static void commit_done(void *ctx, enum store_result result)
{
    struct commit *commit = ctx;
    struct user *u = commit->user;
    commit->sent = false;
    commit->unsure |= result == STORE_AWAY;
    if (result == STORE_AWAY && u->state != USER_GONE) {
        core_store_again(u->core);
        return; /* kept; user_store_back sends it again */
    }
    if (result == STORE_FULL && u->state != USER_GONE && commit_refused(commit))
        return;
    u->commit = NULL; /* user_lose frees what stands there */
    if (result == STORE_FENCED && u->state != USER_GONE) {
        if (!u->deleted)
            log_warn("user",
                     "write refused: another router has claimed the user, or the account was deleted jid=%s",
                     u->bare);
        user_lose(u);
    }
    if (result == STORE_OK && u->state != USER_GONE) {
        u->full = false;
        if (commit->batch.adds > 0)
            note_room(u->core);
    }
    struct list waiters;
    list_init(&waiters);
    list_splice(&waiters, &commit->waiters);
    if (result == STORE_FULL && u->state != USER_GONE)
        take_back(u, &commit->batch, &waiters);
    commit_free(commit);
    finish(u, &waiters, u->state == USER_GONE ? STORE_FENCED : STORE_OK);
    if (is_batch_open(u))
        user_touch(u);
    user_release(u);
}

static void commit_send(struct commit *commit)
{
    struct user *u = commit->user;
    commit->sent = true;
    u->core->store->face->apply(u->core->store, span_of(u->bare), &u->claim, &commit->batch, commit_done,
                                commit);
}

static void commit_user(struct user *u)
{
    if (u->commit != NULL || u->deleting)
        return; /* commit_done comes back to it, user_delete_end does */
    deliver_write_floor(u);
    if (u->deleted)
        store_batch_free(&u->batch);
    if (u->batch.count == 0) {
        struct list waiters;
        list_init(&waiters);
        list_splice(&waiters, &u->batch_waiters);
        u->full = false;
        finish(u, &waiters, STORE_OK);
        return;
    }
    struct commit *commit = u->commit = xcalloc(1, sizeof *commit);
    commit->user = u;
    commit->batch = u->batch;
    memset(&u->batch, 0, sizeof u->batch);
    list_init(&commit->waiters);
    list_splice(&commit->waiters, &u->batch_waiters);
    user_hold(u);
    if (u->core->store_up)
        commit_send(commit);
}

void user_commit_all(struct core *c)
{
    struct list *it;
    while ((it = list_pop(&c->dirty_users)) != NULL) {
        struct user *u = LIST_ENTRY(it, struct user, dirty);
        user_hold(u);
        commit_user(u);
        user_release(u);
    }
}

void user_store_back(struct core *c)
{
    size_t at = 0;
    struct user *u;
    while ((u = map_next(&c->users, &at)) != NULL) {
        if (u->claim_wanted) {
            u->claim_wanted = false;
            claim_start(u);
        }
        if (u->commit != NULL && !u->commit->sent)
            commit_send(u->commit);
    }
}

/* The account */

void user_delete_begin(struct user *u)
{
    u->deleting = true;
}

void user_delete_end(struct user *u, bool done)
{
    u->deleting = false;
    u->deleted = done;
    u->exists = u->exists && !done;
    user_touch(u);
}

/* The end */

void user_lose(struct user *u)
{
    if (u->state == USER_GONE)
        return;
    struct core *c = u->core;
    user_hold(u);
    u->state = USER_GONE;
    if (u->claim_wanted || u->restore_wanted)
        u->holds--; /* nobody will answer that request */
    u->claim_wanted = u->restore_wanted = false;
    if (map_get(&c->users, span_of(u->bare)) == u)
        map_del(&c->users, span_of(u->bare));
    list_del(&u->dirty);
    list_del(&u->floor_node);
    list_del(&u->stuck);
    retell_note(u);
    LIST_EACH (it, &u->sessions)
        session_forget(LIST_ENTRY(it, struct session, of_user));
    parting_forget(c, u);
    store_batch_free(&u->batch);
    run_waiters(&u->batch_waiters, STORE_FENCED);
    if (u->commit != NULL && !u->commit->sent) {
        struct commit *commit = u->commit;
        u->commit = NULL;
        run_waiters(&commit->waiters, STORE_FENCED);
        commit_free(commit);
        u->holds--;
    }
    lane_run(u);
    user_release(u);
}

void user_unstick(struct core *c)
{
    struct list again, *it;
    list_init(&again);
    list_splice(&again, &c->stuck_users);
    while ((it = list_pop(&again)) != NULL) {
        struct user *u = LIST_ENTRY(it, struct user, stuck);
        if (u->commit != NULL && !u->commit->sent && c->store_up)
            commit_send(u->commit);
    }
}

void user_evict_idle(struct core *c)
{
    while (!list_empty(&c->idle_users)) {
        struct user *u = LIST_ENTRY(c->idle_users.next, struct user, idle);
        if (u->idle_since_ms + IDLE_KEEP_MS > c->now_ms)
            break;
        if (store_id_cmp(u->trimmed, u->floor) < 0) {
            /* The last look at its mailbox: what is finished need not stay in the store. */
            u->trimmed = u->floor;
            list_del(&u->idle);
            store_trim(user_batch(u), (struct store_id){u->floor.ms, u->floor.seq + 1});
            continue; /* comes back here after the commit */
        }
        index_leave(u);
        c->store->face->release(c->store, span_of(u->bare), &u->claim);
        user_free(u);
    }
}

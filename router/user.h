/* A bare JID that this router owns: claimed, loaded on demand, written in batches, evicted when idle.
 *
 * While a user is not ready (being loaded, or its owner reads its mailbox) what concerns it waits in `lane`,
 * in order. */
#ifndef JACKDAW_ROUTER_USER_H
#define JACKDAW_ROUTER_USER_H

#include "router/core.h"

enum user_state { USER_LOADING, USER_READY, USER_GONE };

/* How many sessions that timed out are remembered for a late <resume/> (session_sm.c). */
#define USER_TIMED_OUT_MAX 4

struct user {
    struct core *core;
    char *bare;     /* owned; the map's key */
    struct jid jid; /* view of it */
    uint16_t slot;
    enum user_state state;
    bool exists;         /* there is an account */
    bool deleting;       /* a request to do so is under way: writes wait for its answer */
    bool deleted;        /* it has just been deleted from the store with all that it had: no more writes */
    bool looked_after;   /* loaded by sweep.c, not for somebody */
    bool claim_wanted;   /* the store was away when the claim was sent */
    bool restore_wanted; /* the store was away when the mailbox was to be read */
    bool restoring; /* the mailbox has not been read to its end: some marks are known to the store only */
    bool reassign;  /* a session has ended meanwhile: deliver_reassign when it has */
    bool entered;   /* in `present` of its slot: has sessions, or had some since it was loaded */
    unsigned blocks;
    unsigned holds;       /* who needs it to stay in memory: tasks, commits, reads */
    struct list sessions; /* struct session.of_user */
    uint64_t kept_bytes;  /* what they keep for resumptions, together */
    struct list lane;     /* what runs when the user is ready */
    struct store_claim claim;
    struct map contacts; /* bare JID → struct contact (contacts.h) */
    uint64_t roster_version;
    struct map *blocked;         /* prepared JIDs (blocklist.h); NULL = nobody */
    uint64_t blocked_changed_ms; /* wall clock, 0 = never */
    uint64_t told_ms;            /* monotonic: presence of others was last passed to its sessions */
    uint64_t last_seen_ms;       /* wall clock of the last unavailable presence, 0 = never */
    struct user_timed_out {
        uint64_t sid;
        uint32_t h;
    } timed_out[USER_TIMED_OUT_MAX]; /* resumable sessions that were given up, newest first; sid 0 = none */

    /* The mailbox (deliver.c). Every entry up to `floor` is finished; `entries` holds the unfinished ones. */
    struct list entries; /* struct entry, oldest first */
    unsigned entry_count;
    uint64_t entry_bytes;
    struct store_id last_id; /* newest id given */
    struct store_id floor;
    struct store_id trimmed;   /* the store has dropped everything up to it */
    struct store_id trim_mark; /* where the floor was when `untrimmed` was 0 … */
    uint64_t trim_mark_ms;     /* … and when that was, by the monotonic clock */
    uint32_t untrimmed;        /* entries finished since */
    bool full;                 /* the store has refused a batch and not yet taken what remained of it */
    bool floor_moved;          /* not written yet */
    uint64_t floor_written_ms; /* monotonic */
    struct list floor_node;    /* in core.floor_users while floor_moved */
    struct idmap taken[2];     /* sid → struct taken (mailbox.c); two generations, so that old ones go */
    uint64_t taken_since_ms;
    struct user_finished *finished; /* finished.h */
    unsigned finished_count, finished_cap;

    struct store_batch batch;  /* writes of this turn */
    struct list batch_waiters; /* run when this turn's batch is committed */
    struct commit *commit;     /* the batch in flight, NULL = none */
    struct list *finishing;    /* who still waits for the batch that was just committed, NULL = nobody */
    struct list dirty;         /* in core.dirty_users */
    struct list idle;          /* in core.idle_users */
    struct list stuck;         /* in core.stuck_users */
    uint64_t idle_since_ms;
};

/* The user of a bare JID (domain must be local); starts to load it when it is not in memory. NULL when this
 * router may not own it (slot of another, lease not held). */
struct user *user_get(struct core *c, struct span bare);

/* The user if it is in memory, else NULL. */
struct user *user_find(struct core *c, struct span bare);

/* Runs fn(ctx) when the user is ready: now if it is and nobody waits before, else in order. `gone`: the user
 * was lost before (another router owns it): fn gets gone = true and must let go. */
typedef void user_fn(struct user *u, void *ctx, bool gone);
void user_when_ready(struct user *u, user_fn *fn, void *ctx);

/* The user has a session: enters it in `present` of its slot, unless it is there already. Before the
 * session's first write. */
void user_enter(struct user *u);

/* Blocks the lane / opens it again (mailbox reads). Nested calls count. */
void user_block(struct user *u);
void user_unblock(struct user *u);

/* Keeps a user in memory / lets it go to the idle list. */
void user_hold(struct user *u);
void user_release(struct user *u);

/* The batch of this turn, to add writes to; marks the user dirty. */
struct store_batch *user_batch(struct user *u);

/* Marks the user dirty without a write: user_commit_all adds the mailbox floor if it has moved. */
void user_touch(struct user *u);

/* Calls fn when everything written to the user up to now is committed (at once when nothing is in flight or
 * open). result: STORE_OK, STORE_FENCED (the user is lost). STORE_AWAY never: it waits. */
typedef void user_commit_fn(void *ctx, enum store_result result);
void user_after_commit(struct user *u, user_commit_fn *fn, void *ctx);

/* The same for what has added something to the batch (struct store_batch) and may be told STORE_FULL: nothing
 * of that was written. It must take back what it has changed in memory; those who came later are told first.
 * The rest of the batch is still to be written then. */
void user_after_adding(struct user *u, user_commit_fn *fn, void *ctx);

/* True when the store has been full for a while and was so just now: who sends messages should be told.
 * user_may_try: somebody has to, now and then. */
bool user_store_is_full(const struct core *c);
bool user_may_try(struct core *c);

/* True when a commit is open or in flight: volatile stanzas must not overtake what waits for it. */
bool user_commit_pending(const struct user *u);

/* Sends every dirty user's batch (end of turn), unless one of that user is in flight: a batch that is refused
 * must have no successor that is not. */
void user_commit_all(struct core *c);

/* Its account is about to be deleted from the store with all its keys: what is written from here on waits
 * (what was written before must be committed) and, once it is done, goes. */
void user_delete_begin(struct user *u);
void user_delete_end(struct user *u, bool done);

/* Drops a user from memory without touching the store: another owner has it. Sessions vanish silently. */
void user_lose(struct user *u);

/* The store answers again: sends what it had not confirmed. */
void user_store_back(struct core *c);

/* Sends batches again that were refused without having added anything: somebody must mend the store. */
void user_unstick(struct core *c);

/* Evicts users that nobody has needed for a while. */
void user_evict_idle(struct core *c);

/* Notes an id that was given before, by whatever owner: those given from now on are above it. The mailbox's
 * last id alone does not say it, since an entry may have got its id and never have been stored, and the clock
 * of this host may be behind that owner's. */
static inline void user_saw_id(struct user *u, struct store_id id)
{
    if (store_id_cmp(id, u->last_id) > 0)
        u->last_id = id;
}

#endif

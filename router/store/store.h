/* What a router keeps outside itself, behind one face with two implementations: store_redis.c (the real one)
 * and store_mem.c (tests and the simulation: can delay, fail and be shared by several routers).
 *
 * A user's state is claimed as a whole (one round trip loads it) and changed by batches of writes that take
 * effect together or not at all, fenced by the claim: when another router has claimed the user since, the
 * batch is refused. */
#ifndef JACKDAW_ROUTER_STORE_H
#define JACKDAW_ROUTER_STORE_H

#include "common/base/buf.h"

/* The hashes of a user. */
enum store_hash { STORE_ROSTER, STORE_SESSIONS, STORE_META, STORE_HASH_COUNT };

enum store_result {
    STORE_OK,
    STORE_FENCED, /* another router owns the user now */
    STORE_FULL,   /* refused there, nothing was done: no room for what it adds, or an error that would come
                     again (the store has logged what to do) */
    STORE_AWAY /* no answer: may or may not have happened; do it again when the store is back (every write is
                  idempotent) */
};

/* Who claims: a name and incarnation at an epoch. */
struct store_claim {
    uint32_t epoch;
    uint64_t incarnation;
    struct span router;
};

struct store_field {
    struct span name;
    struct span value;
};

struct store_user {
    bool exists; /* there is an account */
    const struct store_field *hash[STORE_HASH_COUNT];
    size_t hash_count[STORE_HASH_COUNT];
    uint64_t mailbox_count;
    struct store_id {
        uint64_t ms;
        uint64_t seq;
    } mailbox_last; /* 0-0 = none yet */
};

/* One mailbox entry. */
struct store_entry {
    struct store_id id;
    struct span raw;    /* the stanza */
    struct span origin; /* "SID:N" of the sender's session, may be empty */
    struct span marks;  /* "SID=OUTNR …": sessions that it was for, may be empty */
    uint64_t at_ms;     /* when it was taken in */
};

/* Replies are borrowed for the call. A callback never runs from inside the request. */
typedef void store_claim_fn(void *ctx, enum store_result result, const struct store_user *user);
typedef void store_apply_fn(void *ctx, enum store_result result);
typedef void store_read_fn(void *ctx, enum store_result result, const struct store_entry *entries,
                           size_t count);
typedef void store_present_fn(void *ctx, enum store_result result, const struct span *users, size_t count);
typedef void store_blob_fn(void *ctx, enum store_result result, struct span value); /* value.p NULL = none */

/* A batch under construction. Zero-initialise. */
struct store_batch {
    struct buf ops; /* encoded; see store.c */
    unsigned count;
    unsigned adds; /* of these, what needs room: messages, roster items, blobs. A full store takes a batch
                      without any: what keeps the books (and in the end makes room) is small */
};

void store_put(struct store_batch *b, enum store_hash hash, struct span field, struct span value);
void store_drop(struct store_batch *b, enum store_hash hash, struct span field);
void store_append(struct store_batch *b, const struct store_entry *entry);
void store_remove(struct store_batch *b, struct store_id id);  /* a mailbox entry */
void store_trim(struct store_batch *b, struct store_id below); /* all mailbox entries with a smaller id */
void store_put_blob(struct store_batch *b, struct span name,
                    struct span value); /* vcard and the like; kept outside the claim */
/* The user of the batch has sessions / has none (any more), for `present` of its slot. The last one counts.
 */
void store_present(struct store_batch *b, uint16_t slot, bool present);
void store_batch_free(struct store_batch *b);

/* Takes everything that adds out of a batch, and what else concerns rosters. */
void store_batch_strip(struct store_batch *b);

/* Appends the operations of `more` and empties it. */
void store_batch_join(struct store_batch *b, struct store_batch *more);

/* Decoding of a batch, for the implementations: next operation from the front of *ops. */
enum store_op_kind {
    STORE_OP_PUT,
    STORE_OP_DROP,
    STORE_OP_APPEND,
    STORE_OP_REMOVE,
    STORE_OP_TRIM,
    STORE_OP_BLOB,
    STORE_OP_PRESENT
};
struct store_op {
    enum store_op_kind kind;
    enum store_hash hash;
    struct span field;
    struct span value;
    struct store_entry entry;
    uint16_t slot;
    bool present;
};
bool store_op_next(struct span *ops, struct store_op *out);

struct store;
struct sasl_keys; /* common/sasl */

struct store_face {
    /* Claims and loads a user. STORE_FENCED: a newer epoch has claimed it. */
    void (*claim)(struct store *s, struct span bare, const struct store_claim *claim, store_claim_fn *fn,
                  void *ctx);

    /* Applies a batch under a claim; the batch may be freed after the call. Batches of one user take effect
     * in order. */
    void (*apply)(struct store *s, struct span bare, const struct store_claim *claim,
                  const struct store_batch *batch, store_apply_fn *fn, void *ctx);

    /* Gives a claim up. */
    void (*release)(struct store *s, struct span bare, const struct store_claim *claim);

    /* Reads mailbox entries after an id, oldest first, at most max. */
    void (*read)(struct store *s, struct span bare, struct store_id after, unsigned max, store_read_fn *fn,
                 void *ctx);

    /* Reads a blob of any user (no claim needed). */
    void (*blob)(struct store *s, struct span bare, struct span name, store_blob_fn *fn, void *ctx);

    /* The users of a slot that have sessions, and perhaps some that had (no claim needed). */
    void (*present)(struct store *s, uint16_t slot, store_present_fn *fn, void *ctx);

    /* The user has had no session for long: `present` of its slot forgets it, if it was entered under this
     * claim. Without an answer. */
    void (*absent)(struct store *s, uint16_t slot, struct span bare, const struct store_claim *claim);

    /* Replaces the keys (copied) of an account / deletes an account with everything of its user and voids the
     * claim. STORE_FENCED: there is no such account. */
    void (*account_set)(struct store *s, struct span bare, const struct sasl_keys *keys, store_apply_fn *fn,
                        void *ctx);
    void (*account_delete)(struct store *s, struct span bare, store_apply_fn *fn, void *ctx);
};

/* Embedded at the front of an implementation. */
struct store {
    const struct store_face *face;
};

/* Order of ids. */
static inline int store_id_cmp(struct store_id a, struct store_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

/* Parses all of text as an id, "MS-SEQ". False on anything else: *out is not changed then. */
bool store_id_parse(struct span text, struct store_id *out);

#endif

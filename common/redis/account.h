/* Accounts in Redis: hash u:{jid}:account with the fields scram (sasl_keys_write), created (wall-clock ms)
 * and disabled ("1", else absent). JIDs are prepared bare JIDs.
 *
 * Every call is embedded in its owner: the struct must stay until the callback, or until account_cancel. The
 * callback comes exactly once, never from inside the call that starts it. */
#ifndef JACKDAW_REDIS_ACCOUNT_H
#define JACKDAW_REDIS_ACCOUNT_H

#include "common/redis/redis.h"
#include "common/sasl/sasl.h"

enum account_status {
    ACCOUNT_OK,
    ACCOUNT_NONE,   /* there is no such account */
    ACCOUNT_EXISTS, /* account_create: there is one already */
    ACCOUNT_AWAY,   /* Redis gave no answer: a write may or may not have been done */
    ACCOUNT_BROKEN  /* Redis answered with an error, or the record is not one; logged */
};

/* "there is no such account", for people. */
const char *account_status_text(enum account_status status);

/* What is known about an account; borrowed for the callback. Zero unless ACCOUNT_OK of account_get. */
struct account {
    struct sasl_keys keys;
    bool disabled;
    uint64_t created_ms;
};

struct account_call;
typedef void account_fn(struct account_call *call, enum account_status status, const struct account *account);

/* Zero-initialise, set ctx as you like. */
struct account_call {
    account_fn *fn;
    void *ctx;
    enum account_status refused; /* internal: what the answer 0 means */
};

/* Makes an account. When there is one: ACCOUNT_EXISTS, or with replace its record is written anew (roster and
 * messages stay). */
void account_create(struct redis *r, struct span jid, const struct sasl_keys *keys, bool replace,
                    struct account_call *call, account_fn *fn);

/* Deletes all keys of the user: account, roster, sessions, mailbox, meta; and voids its router's claim, so
 * that the router's next write is FENCED and it loads the user anew. Sessions that are on-line now stay until
 * then; kick them first. ACCOUNT_NONE when there was no account (the rest is deleted all the same). */
void account_delete(struct redis *r, struct span jid, struct account_call *call, account_fn *fn);

/* Replaces the keys (a new password). ACCOUNT_NONE when there is no account. */
void account_set_keys(struct redis *r, struct span jid, const struct sasl_keys *keys,
                      struct account_call *call, account_fn *fn);

/* Locks or unlocks log-ins. ACCOUNT_NONE when there is no account. */
void account_set_disabled(struct redis *r, struct span jid, bool disabled, struct account_call *call,
                          account_fn *fn);

/* Reads an account. */
void account_get(struct redis *r, struct span jid, struct account_call *call, account_fn *fn);

/* The callback does not come any more; the struct may go. Harmless when nothing is under way. */
void account_cancel(struct redis *r, struct account_call *call);

/* Walks all accounts of a domain (empty = of all), some hundred a round trip. Those that exist during the
 * whole walk are told; one may be told twice. Zero-initialise, set ctx; stays until `done`. */
struct account_scan {
    void (*found)(struct account_scan *scan, struct span jid);           /* jid borrowed for the call */
    void (*done)(struct account_scan *scan, enum account_status status); /* ACCOUNT_OK: it was all */
    void *ctx;
    struct redis *redis; /* internal, from here */
    unsigned node;
    struct buf domain, jid;
};
void account_scan(struct redis *r, struct span domain, struct account_scan *scan);

/* Ends a walk early; `done` does not come. Allowed inside `found` too. */
void account_scan_cancel(struct account_scan *scan);

#endif

/* A stanza on its way through the pipeline. On the fast path a task lives on the stack and borrows the frame;
 * when something has to wait, task_keep makes it stand on its own. Hooks see struct task and borrow it. */
#ifndef JACKDAW_ROUTER_TASK_H
#define JACKDAW_ROUTER_TASK_H

#include "common/base/arena.h"
#include "router/route.h"
#include "router/session.h"

/* The named order of hooks. SENT tasks (a client's stanza at the sender's home) run VALIDATE … ROUTE;
 * RECEIVED tasks (at the recipient's home) run VALIDATE, POLICY, STAMP, ARCHIVE, COPY, DELIVER, then
 * UNDELIVERED when no session got it, then NOTIFY. */
enum phase {
    PHASE_VALIDATE,
    PHASE_POLICY,
    PHASE_STAMP,
    PHASE_ARCHIVE,
    PHASE_COPY,
    PHASE_ROUTE,
    PHASE_DELIVER,
    PHASE_UNDELIVERED,
    PHASE_NOTIFY,
    PHASE_COUNT
};

enum verdict {
    PASS,   /* go on */
    DONE,   /* the stanza is dealt with: end here */
    DROP,   /* end here by a rule; task->why names it for the counter */
    REJECT, /* answer with task->error */
    WAIT /* an asynchronous call is under way; task_resume enters the same hook again with wake = WAKE_REPLY
          */
};

enum wake { WAKE_FIRST, WAKE_REPLY };

/* Masks for hooks. */
enum {
    ON_MESSAGE = 1u << STANZA_MESSAGE,
    ON_PRESENCE = 1u << STANZA_PRESENCE,
    ON_IQ = 1u << STANZA_IQ,
    ON_SENT = 1u << 4,
    ON_RECEIVED = 1u << 5,
};

struct task {
    struct core *core;
    struct user *user;  /* whose: the sender's (SENT) or the recipient's (RECEIVED) */
    uint64_t sid;       /* SENT: the session it came from */
    bool sent;          /* direction */
    bool kept;          /* on the heap */
    bool delivered;     /* a session got it, or will */
    bool again;         /* may have been taken before: WIRE_AGAIN */
    bool broadcast;     /* WIRE_BROADCAST */
    bool stale;         /* RECEIVED: of a router that is not its sender's home (any more) */
    bool blocking;      /* its user's lane waits for it */
    struct task *moved; /* what task_keep made of it */
    enum phase phase;
    uint8_t step; /* where it waits */
    uint8_t hook;
    struct stanza stanza; /* borrowed, or from `frame` when kept */
    struct rcbuf *frame;
    struct origin origin;
    struct span target;      /* RECEIVED: the bare JID that it is for (fan-out: stanza.to is empty) */
    char node[64];           /* RECEIVED: who waits for DONE */
    uint64_t token;          /* 0 = nobody */
    struct arena *arena;     /* made at first use; freed with the task */
    enum stanza_error error; /* with REJECT */
    const char *error_text;  /* static, may be NULL */
    struct stanza_error_extra error_extra;
    const char *why;     /* with DROP */
    uint64_t archive_id; /* note from ARCHIVE */
    void *reply;         /* what a hook that WAITs keeps, in the arena */
};

/* The session that a SENT task came from, or NULL when it has gone meanwhile. */
struct session *task_session(const struct task *t);

/* The task's arena. */
struct arena *task_arena(struct task *t);

/* The payload of an iq as a tree in the arena (NULL when it isn't well-formed or there is none). */
struct xml_node *task_payload(struct task *t);

/* No answer is larger: it must fit into a frame on whatever way it goes, and making it stops the shard. A
 * larger one becomes resource-constraint. */
#define TASK_ANSWER_MAX_BYTES (WIRE_MAX_BYTES / 2)

/* Replies to the task's iq: an empty result; a result with raw payload; an error. To the sender of the
 * stanza, through the router's one way (route.h). from is the stanza's `to`, or the user's bare JID when it
 * had none. */
void task_result(struct task *t, struct span payload);
void task_error(struct task *t, enum stanza_error error, const char *text);

/* A hook's last words: REJECT with an error (text static or NULL), DROP by a rule (static, for the log). */
enum verdict task_refuse(struct task *t, enum stanza_error error, const char *text);
enum verdict task_drop(struct task *t, const char *why);

/* Runs a task from its first phase. t may be on the stack; it is finished or kept when the call returns. */
void task_run(struct task *t);

/* A hook's asynchronous call has come back: enters the hook again. t must be kept (hooks that WAIT get kept
 * tasks: call task_keep first and use the returned task). */
struct task *task_keep(struct task *t);
void task_resume(struct task *t);

#endif

/* A protocol feature is a room with one face: one constant table in one file of router/feature/. features.c
 * is the one ordered list. A feature never includes another; they meet through notes on the task, events, and
 * services below (contacts, deliver, session, route). */
#ifndef JACKDAW_ROUTER_FEATURE_H
#define JACKDAW_ROUTER_FEATURE_H

#include "router/task.h"

/* To whom an iq is addressed. */
enum iq_to {
    IQ_TO_ACCOUNT, /* no `to`, or the sender's own bare JID: handled for the sender */
    IQ_TO_OTHER,   /* somebody else's bare JID, handled on that person's behalf at that person's home */
    IQ_TO_HOST,    /* one of our domains */
};

/* What strangers (who may not see the presence) are told when they ask an account: nothing, which is the
 * answer for an account that does not exist, too; or what the handler says. It is called for accounts that do
 * not exist as well then, and must not let anybody tell the difference. */
enum iq_strangers { STRANGERS_LEARN_NOTHING, STRANGERS_ASK };

struct iq_route {
    enum stanza_type type; /* STANZA_GET or STANZA_SET */
    enum iq_to to;
    const char *ns;   /* of the payload */
    const char *name; /* of the payload, NULL = any */
    enum verdict (*fn)(struct task *t, enum wake wake);
    enum iq_strangers strangers; /* with IQ_TO_OTHER */
};

struct feature_hook {
    enum phase phase;
    unsigned mask; /* ON_… kinds and directions, both needed */
    enum verdict (*fn)(struct task *t, enum wake wake);
};

enum event {
    EV_NONE,
    EV_SESSION_OPENED,
    EV_SESSION_AVAILABLE,   /* initial presence has been sent */
    EV_SESSION_UNAVAILABLE, /* said so, or lost */
    EV_SESSION_SYNCED,      /* taken over from a dead router: what was in flight may be lost */
    EV_SESSION_RESUMED,
    EV_SESSION_ROOM, /* its client reads again: presence that had no room is to be told */
    EV_SESSION_CLOSED,
    EV_USER_DELETED,   /* the account was removed; s is NULL */
    EV_COMPONENT_HERE, /* core->components.subject has connections (again); s is NULL */
    EV_COMPONENT_GONE, /* … has had none for a while; s is NULL */
    EV_ROSTER_CHANGED, /* core->pushed goes to the user's clients; s is NULL */
    EV_COUNT
};

struct feature_event {
    enum event event;
    void (*fn)(struct user *u, struct session *s);
};

#define FEATURE_LIST_MAX 12

struct feature {
    const char *name;                              /* trace zone, stats label, --show-pipeline */
    const char *xeps[FEATURE_LIST_MAX];            /* "0199 2.0.1": README table and DOAP are made from it */
    const char *rfcs[FEATURE_LIST_MAX];            /* "6121 2" */
    const char *disco_host[FEATURE_LIST_MAX];      /* features of a domain */
    const char *disco_account[FEATURE_LIST_MAX];   /* features of a bare JID */
    bool (*enabled)(const struct conf *conf);      /* NULL = always */
    size_t session_size;                           /* bytes of its per-session slot */
    struct iq_route iqs[FEATURE_LIST_MAX];         /* ends at ns NULL */
    struct feature_hook hooks[FEATURE_LIST_MAX];   /* ends at fn NULL */
    struct feature_event events[FEATURE_LIST_MAX]; /* ends at fn NULL */
};

/* All features in order, NULL-terminated. */
extern const struct feature *const features[];

/* Indexes the tables for the configuration; once at start. */
void features_init(const struct conf *conf);

/* True when the feature is switched on. */
bool feature_enabled(const struct feature *f);

/* The handler of an iq, or NULL. */
const struct iq_route *feature_iq(enum stanza_type type, enum iq_to to, struct span ns, struct span name);

/* The n-th hook of a phase for a task's kind and direction, or NULL when there are no more. */
const struct feature_hook *feature_hook(enum phase phase, unsigned mask, unsigned n);

/* Tells every feature. */
void feature_event(enum event event, struct user *u, struct session *s);

/* Bytes of all per-session slots; offset of one feature's. */
size_t feature_session_bytes(void);
size_t feature_session_offset(const struct feature *f);

/* Prints a line for each specification of an enabled feature, "XEP-0199 2.0.1 ping", "RFC-6121 4 presence",
 * to stdout: jackdaw-router --specs. README's table and the DOAP file are made from it. */
void feature_print_specs(void);

/* Prints the pipeline (phase, feature, hook) to stdout: jackdaw-router --show-pipeline. */
void feature_print_pipeline(void);

#endif

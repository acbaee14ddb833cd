/* jackdawctl: the tool that operates a cluster. One verb = one row of the table in ctl.c = one function here.
 * It talks to Redis, or to the processes over the bus and their stats endpoints, and works from any node. */
#ifndef JACKDAW_CTL_CTL_H
#define JACKDAW_CTL_CTL_H

#include "common/base/text.h"
#include "common/redis/redis.h"

struct conf;
struct jid;
struct ring;

/* Exit codes. */
enum ctl_exit {
    CTL_OK,
    CTL_REFUSED, /* no such user, exists already, wrong configuration: the answer is no */
    CTL_USAGE,   /* wrong arguments, or no usable configuration */
    CTL_AWAY     /* Redis or a process gives no answer */
};

struct ctl {
    const char *config_file; /* NULL = defaults only */
    struct conf *conf;
    bool json;
    unsigned timeout_ms; /* how long to wait for Redis or a process */
    const char *verb;
    int argc; /* what is left of the verb's arguments */
    char **argv;
    struct ring *ring; /* both made by ctl_connect */
    struct redis *redis;
};

/* The whole tool: returns the exit code. */
int ctl_main(int argc, char **argv);

/* ---- for the verbs */

/* Takes an option out of the arguments: a flag, or one with a value (--name VALUE, --name=VALUE). False when
 * it isn't there; a missing value gives true with *value NULL. */
bool ctl_flag(struct ctl *c, const char *name);
bool ctl_value(struct ctl *c, const char *name, const char **value);

/* After the options: between least and most arguments are left, and none looks like an option; else says so,
 * false. */
bool ctl_arguments(struct ctl *c, int least, int most);

/* Connects to Redis and waits until it is usable; else says why, false. */
bool ctl_connect(struct ctl *c);

/* Turns the loop until *flag is set; false after the timeout. */
bool ctl_wait(struct ctl *c, const bool *flag);

/* Says that something is not so: text to standard error, or {"ok":false,"error":...} with --json. Returns
 * code. */
int ctl_fail(struct ctl *c, enum ctl_exit code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Says that it is done: the text, or {"ok":true} with --json. Returns CTL_OK. */
int ctl_done(struct ctl *c, const char *format, ...) PRINTF_LIKE(2, 3);

/* Prints a buffer and frees it. */
void ctl_print(struct buf *out);

/* A prepared bare JID with a localpart in a domain of this cluster, appended to *store (any_domain: in
 * whichever domain). False with *why (caller frees). */
bool ctl_user_jid(const struct ctl *c, const char *text, bool any_domain, struct buf *store, char **why);

/* One command to Redis, waited for: the reply goes to take(ctx, reply). key as for redis_command. False
 * (said) when there was no answer or an error. */
bool ctl_ask(struct ctl *c, struct span key, unsigned argc, const struct span *argv, redis_fn *take,
             void *ctx);

/* The same to one of the nodes that hold keys (redis_node_next). */
bool ctl_ask_node(struct ctl *c, unsigned node, unsigned argc, const struct span *argv, redis_fn *take,
                  void *ctx);

/* A password from --password (which everybody sees in ps), --password-stdin, the first line of
 * --password-file or the terminal (asked twice): first the options are taken,
 * then the password is appended to *password (false, said, when there is none). */
struct ctl_password {
    const char *given, *file;
    bool is_given, from_stdin, from_file;
};
void ctl_password_options(struct ctl *c, struct ctl_password *p);
bool ctl_password_get(struct ctl *c, const struct ctl_password *p, struct buf *password);

/* Tells the home router of a JID to "kick" (end the session, or with a bare JID all) or to "forget" (the
 * account goes: tell its contacts, end all sessions). *ended: how many sessions ended; why not goes to *why.
 * Connected. */
enum ctl_control_result {
    CTL_CONTROL_DONE,
    CTL_CONTROL_REFUSED,
    CTL_CONTROL_NO_ROUTER, /* none runs, so nobody is on-line either */
    CTL_CONTROL_AWAY
};
enum ctl_control_result ctl_control(struct ctl *c, const char *verb, const struct jid *jid, unsigned *ended,
                                    struct buf *why);

/* ---- the verbs: each takes its arguments from c, says the outcome and returns an exit code */

/* adduser: one account, or many with --file. */
int ctl_adduser(struct ctl *c);
/* adduser --file: file "-" is standard input; replace overwrites existing accounts. */
int ctl_adduser_file(struct ctl *c, const char *file, bool replace, uint32_t iterations);
/* deluser: the account, its keys and its sessions. */
int ctl_deluser(struct ctl *c);
/* passwd: new keys for an account. */
int ctl_passwd(struct ctl *c);
/* enable: log-ins again. */
int ctl_enable(struct ctl *c);
/* disable: no log-ins, sessions end. */
int ctl_disable(struct ctl *c);
/* users: a walk over the accounts, sorted. */
int ctl_users(struct ctl *c);
/* sessions: as the routers keep them in Redis. */
int ctl_sessions(struct ctl *c);
/* kick: ends sessions at their router. */
int ctl_kick(struct ctl *c);
/* cluster: members, slots, Redis. */
int ctl_cluster(struct ctl *c);
/* where: the home router of each JID. */
int ctl_where(struct ctl *c);
/* stats: what the endpoint of a process says. */
int ctl_stats(struct ctl *c);
/* config-check: the mistakes in a file. */
int ctl_config_check(struct ctl *c);
/* sample-config: every option with its default. */
int ctl_sample_config(struct ctl *c);

#endif

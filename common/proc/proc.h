/* The skeleton of every process: arguments, configuration, log, loop, bus, Redis, membership, signals, drain,
 * crash report, stats endpoint. A main() fills in a struct proc_role and calls proc_main.
 *
 *     jackdaw-ROLE [--config FILE] [--name NAME] [--set section.name=value]…
 *     jackdaw-ROLE … --print-config      the configuration in force as a file, and end
 *     jackdaw-ROLE --version | --help */
#ifndef JACKDAW_PROC_PROC_H
#define JACKDAW_PROC_PROC_H

#include "common/base/span.h"

struct conf;
struct ring;
struct bus;
struct redis;
struct member;
struct bus_peer;

struct proc;

/* Any function but start may be NULL. */
struct proc_role {
    const char *role; /* "c2s", "router", "s2s": the log's and the membership's word */

    /* Makes the role's own state; the loop, bus, Redis and membership exist (not yet connected). NULL = give
     * up (has logged why). */
    void *(*start)(struct proc *p);

    /* The first membership with this process in it has come and Redis answers: open the listeners. */
    void (*ready)(void *self);

    /* A frame from another process; borrowed for the call. */
    void (*frame)(void *self, struct bus_peer *from, struct span frame);

    /* A link is up with a (new) incarnation / is gone for good (the incarnation died or left). */
    void (*peer_up)(void *self, struct bus_peer *peer);
    void (*peer_gone)(void *self, struct bus_peer *peer);

    /* Below the link's window again after bus_ready said no. NULL = not wanted. */
    void (*peer_room)(void *self, struct bus_peer *peer);

    /* The own lease is lost (false: stop acting as an owner at once) or held again (true). NULL = not wanted.
     */
    void (*lease)(void *self, bool held);

    /* The membership has a new epoch. */
    void (*epoch)(void *self);

    /* Redis answers again (true) or no longer (false). */
    void (*redis_state)(void *self, bool up);

    /* SIGHUP: re-read certificates and the like. */
    void (*reload)(void *self);

    /* SIGTERM or SIGINT: stop taking new work and finish what is begun. Call proc_drained when done; after 5
     * s the process ends anyway. NULL = nothing to drain. */
    void (*drain)(void *self);

    /* One line about what is being worked on, for the crash report; NULL = none. */
    void (*crash_note)(void *self);

    /* Frees the state. */
    void (*stop)(void *self);
};

/* Runs a process; returns its exit code: 0 after a drain, 1 refused to start (the log says why), 2 wrong
 * arguments. */
int proc_main(int argc, char **argv, const struct proc_role *role);

/* What a role may use. Borrowed from the process. */
const struct conf *proc_conf(const struct proc *p);
struct ring *proc_ring(const struct proc *p);
struct bus *proc_bus(const struct proc *p);
struct redis *proc_redis(const struct proc *p);
struct member *proc_member(const struct proc *p);

/* This process's name ("c2s-1") and incarnation (a number drawn at start). */
const char *proc_name(const struct proc *p);
uint64_t proc_incarnation(const struct proc *p);

/* The drain is over: leave the membership and end. */
void proc_drained(struct proc *p);

#endif

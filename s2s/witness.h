/* The witness of a federation process: a second, tiny process of the same program that holds copies of the
 * sockets of its streams and the ledger, and does nothing until the first one dies without a word (kill -9, a
 * crash, no memory). Then the streams do not break: it tells Redis which stanzas other servers may send
 * again, waits until each other server has taken all that was written to it and has ended the connection in
 * answer to our end, and tells Redis which stanzas that were. Whoever takes over reads it (estate.h) and
 * sends only the rest. A host that dies takes its witness along: then what was under way and unacknowledged
 * comes twice, as nobody can know better. */
#ifndef JACKDAW_S2S_WITNESS_H
#define JACKDAW_S2S_WITNESS_H

#include "common/base/span.h"
#include "s2s/ledger.h"

struct conf;
struct witness;

/* Starts the witness of the process "NAME:INCARNATION". NULL when that fails (logged with the consequence).
 */
struct witness *witness_start(const char *process, const struct conf *conf);

/* Where the process writes down what it does; NULL when w is NULL or has died. Ask each time. */
struct ledger *witness_ledger(struct witness *w);

/* In these three NULL is allowed: nothing. Gives it a copy of a stream's socket, before the first line about
 * that stream. dialled: we connected. */
void witness_add(struct witness *w, uint64_t sid, int fd, bool dialled);

/* The remote domain speaks (or may speak) on that stream. */
void witness_domain(struct witness *w, uint64_t sid, struct span domain);

/* It is to close its copy. */
void witness_drop(struct witness *w, uint64_t sid);

/* The process ends. clean: nothing is under way; else the witness does its work as if it had died. Frees.
 * NULL is allowed. */
void witness_end(struct witness *w, bool clean);

/* The other process: main calls it with the descriptor that it was started with; returns the exit code. */
int witness_main(int fd);

/* How they speak. text: HELLO "PROCESS\0URL\0", DOMAIN the domain. */
enum witness_kind { WITNESS_HELLO, WITNESS_ADD, WITNESS_DOMAIN, WITNESS_DROP, WITNESS_BYE };
struct witness_message {
    uint32_t kind;
    uint32_t dialled;
    uint64_t sid;
    char text[2048];
};
#define WITNESS_HEADER offsetof(struct witness_message, text)

#endif

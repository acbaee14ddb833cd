/* Features and commits: what must be durable before it is told (DESIGN.md, promise 1). */
#ifndef JACKDAW_ROUTER_COMMIT_H
#define JACKDAW_ROUTER_COMMIT_H

#include "router/task.h"

/* What a hook that waits for a commit keeps in task->reply: this, or a struct that begins with it. */
struct commit_note {
    enum store_result result;
};

/* A zeroed note of size bytes (sizeof of the struct that begins with struct commit_note) in the task's arena,
 * set as task->reply. */
void *commit_note(struct task *t, size_t size);

/* Waits until everything written to the task's user is committed. True: the hook must return WAIT and is
 * entered again with note->result set (STORE_FENCED: the user is lost, touch nothing but the task). False:
 * nothing is in flight, note->result is STORE_OK, go on. The task's reply must be a note. */
bool commit_wait(struct task *t);

/* The verdict of a hook that was told STORE_FENCED: nothing has happened; whoever sent the stanza sends it to
 * the new owner. */
enum verdict commit_lost(struct task *t);

/* For a SENT task whose hook need not wait: the client's stanza is not acknowledged before what was written
 * is committed. */
void commit_before_handled(struct task *t);

#endif

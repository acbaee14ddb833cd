/* Waiting for a commit from inside a hook. */
#include "router/commit.h"

#include <stdlib.h>

void *commit_note(struct task *t, size_t size)
{
    CHECK(size >= sizeof(struct commit_note));
    t->reply = arena_alloc(task_arena(t), size);
    return t->reply;
}

static void committed(void *ctx, enum store_result result)
{
    struct task *t = ctx;
    struct commit_note *note = t->reply;
    note->result = result;
    task_resume(t);
}

bool commit_wait(struct task *t)
{
    struct commit_note *note = t->reply;
    note->result = STORE_OK;
    /* Without something in flight the callback would come from inside the call. */
    if (!user_commit_pending(t->user))
        return false;
    user_after_adding(t->user, committed, task_keep(t));
    return true;
}

enum verdict commit_lost(struct task *t)
{
    if (t->token != 0)
        route_refuse(t->core, t->node, t->user->slot, t->token);
    t->token = 0;
    t->why = "lost";
    return DROP;
}

struct open_work {
    struct core *core;
    uint64_t sid;
    uint64_t n;
};

static void work_committed(void *ctx, enum store_result result)
{
    struct open_work *work = ctx;
    /* Not when the user is lost: the new owner gets the stanza again. */
    if (result != STORE_FENCED)
        session_work_end(work->core, work->sid, work->n);
    free(work);
}

void commit_before_handled(struct task *t)
{
    struct session *s = task_session(t);
    if (s == NULL || t->origin.sid == 0 || !user_commit_pending(t->user))
        return;
    struct open_work *work = xcalloc(1, sizeof *work);
    *work = (struct open_work){t->core, t->origin.sid, t->origin.n};
    session_work_begin(s, work->n);
    user_after_commit(t->user, work_committed, work);
}

/* adduser --file: thousands of accounts in seconds. Deriving the keys is what costs (some milliseconds of CPU
 * each), so
 *   1. the file is read and every JID prepared;
 *   2. Redis is asked which accounts exist already (in deep pipelines); those cost no derivation;
 *   3. one worker process per core derives its share of the rest, sixteen side by side, and writes the keys
 * into a pipe;
 *   4. what comes out of the pipes is written to Redis as it comes. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/map.h"
#include "common/redis/account.h"
#include "common/redis/keys.h"
#include "common/ring/ring.h"
#include "deploy/ctl/ctl.h"

enum { WORKERS_MAX = 64, DEPTH_MAX = 1000, BATCH = 16 };

enum entry_state { ENTRY_NEW, ENTRY_EXISTS, ENTRY_WRONG, ENTRY_CREATED };

struct entry {
    struct bulk *bulk;
    struct account_call call;
    char *jid;
    char *password; /* wiped when derived */
    unsigned line;
    enum entry_state state;
    char *error;
};

/* What a worker writes: less than PIPE_BUF, so whole or not at all. */
struct derived {
    uint32_t index;
    bool good;
    struct sasl_keys keys;
};

struct bulk {
    struct ctl *c;
    struct entry *entries;
    size_t count, cap;
    size_t in_flight;
    size_t created, existed, wrong;
    bool away;  /* Redis ceased to answer: stop */
    bool moved; /* something was answered since it was cleared */
    bool replace;
    unsigned workers;
    pid_t pids[WORKERS_MAX];
    int pipes[WORKERS_MAX]; /* -1 = at its end */
};

static void entry_wrong(struct bulk *b, struct entry *e, char *error)
{
    e->state = ENTRY_WRONG;
    e->error = error;
    b->wrong++;
}

/* ---- 1: the file */

static void line_take(struct bulk *b, char *line, unsigned number)
{
    struct buf jid = {0};
    char *rest = NULL, *name = strtok_r(line, " \t", &rest);
    if (name == NULL || name[0] == '#')
        return;
    while (*rest == ' ' || *rest == '\t')
        rest++;
    if (b->count == b->cap) {
        b->cap = MAX(b->cap * 2, 256);
        b->entries = xrealloc(b->entries, b->cap * sizeof(*b->entries));
    }
    struct entry *e = &b->entries[b->count++];
    *e = (struct entry){.bulk = b, .line = number};
    char *why = NULL;
    if (!ctl_user_jid(b->c, name, false, &jid, &why)) {
        e->jid = xstrdup(name);
        entry_wrong(b, e, why);
    } else {
        e->jid = span_dup(buf_span(&jid));
        if (rest[0] == '\0')
            entry_wrong(b, e, xstrdup("there is no password behind the JID"));
        else
            e->password = xstrdup(rest);
    }
    buf_free(&jid);
}

/* An address that stands twice counts once: the first line wins. */
static void doubles_mark(struct bulk *b)
{
    struct map seen = {0};
    for (size_t i = 0; i < b->count; i++) {
        struct entry *e = &b->entries[i];
        if (e->state != ENTRY_NEW)
            continue;
        struct entry *first = map_get(&seen, span_of(e->jid));
        if (first != NULL)
            entry_wrong(b, e, xasprintf("stands in line %u already", first->line));
        else
            map_put(&seen, span_of(e->jid), e);
    }
    map_free(&seen);
}

static bool file_read(struct bulk *b, const char *file)
{
    FILE *in = strcmp(file, "-") == 0 ? stdin : fopen(file, "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    if (in == NULL) {
        ctl_fail(b->c, CTL_REFUSED, "%s: %s", file, strerror(errno));
        return false;
    }
    for (unsigned number = 1; (n = getline(&line, &cap, in)) >= 0; number++) {
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = '\0';
        line_take(b, line, number);
    }
    if (line != NULL)
        explicit_bzero(line, cap);
    free(line);
    if (in != stdin)
        fclose(in);
    doubles_mark(b);
    return true;
}

/* ---- 2: which exist */

static void on_exists(void *ctx, const struct redis_reply *reply)
{
    struct entry *e = ctx;
    struct bulk *b = e->bulk;
    b->in_flight--;
    b->moved = true;
    if (reply == NULL || reply->kind != REDIS_KIND_NUMBER) {
        b->away = true;
    } else if (reply->number > 0) {
        e->state = ENTRY_EXISTS;
        b->existed++;
    }
}

/* Turns until at most `most` commands are in flight. */
static void drain(struct bulk *b, size_t most)
{
    while (b->in_flight > most && !b->away) {
        b->moved = false;
        if (!ctl_wait(b->c, &b->moved))
            b->away = true;
    }
}

static void existing_find(struct bulk *b)
{
    struct buf store = {0};
    for (size_t i = 0; i < b->count && !b->away; i++) {
        struct entry *e = &b->entries[i];
        if (e->state != ENTRY_NEW)
            continue;
        struct span key = key_account(&store, span_of(e->jid));
        b->in_flight++;
        redis_send(b->c->redis, key, on_exists, e, SPAN("EXISTS"), key);
        drain(b, DEPTH_MAX);
    }
    drain(b, 0);
    buf_free(&store);
}

/* ---- 3: workers */

static void worker_run(const struct bulk *b, unsigned self, int out, uint32_t iterations)
{
    size_t at = 0;
    unsigned n = 0;
    struct span passwords[BATCH];
    struct derived d[BATCH];
    struct sasl_keys keys[BATCH];
    bool good[BATCH];
    for (size_t i = 0; i <= b->count; i++) {
        const struct entry *e = i < b->count ? &b->entries[i] : NULL;
        if (e != NULL && e->state == ENTRY_NEW && at++ / BATCH % b->workers == self) {
            d[n].index = (uint32_t)i;
            passwords[n++] = span_of(e->password);
        }
        if (n < BATCH && e != NULL)
            continue;
        sasl_keys_derive_many(passwords, n, iterations, keys, good);
        for (unsigned k = 0; k < n; k++) {
            d[k].good = good[k];
            d[k].keys = keys[k];
            if (write(out, &d[k], sizeof(d[k])) != sizeof(d[k]))
                _exit(1);
        }
        n = 0;
    }
    _exit(0);
}

static bool workers_start(struct bulk *b, uint32_t iterations)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t work = b->count - b->existed - b->wrong;
    unsigned wanted = (unsigned)MIN(MAX(cores, 1), WORKERS_MAX);
    b->workers = (unsigned)MIN((size_t)wanted, MAX(work / BATCH, (size_t)1));
    pid_t parent = getpid();
    fflush(stdout);
    for (unsigned i = 0; i < b->workers; i++) {
        int ends[2];
        b->pipes[i] = -1;
        if (pipe(ends) != 0 || (b->pids[i] = fork()) < 0) {
            ctl_fail(b->c, CTL_AWAY, "cannot start a worker: %s", strerror(errno));
            b->workers = i;
            return false;
        }
        if (b->pids[i] == 0) {
            close(ends[0]);
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() == parent)
                worker_run(b, i, ends[1], iterations);
            _exit(1);
        }
        close(ends[1]);
        b->pipes[i] = ends[0];
    }
    return true;
}

static void workers_end(struct bulk *b)
{
    for (unsigned i = 0; i < b->workers; i++) {
        if (b->pipes[i] >= 0)
            close(b->pipes[i]);
        kill(b->pids[i], SIGKILL); /* harmless when it has ended: it is not waited for yet */
        waitpid(b->pids[i], NULL, 0);
    }
}

/* ---- 4: writing */

static void on_created(struct account_call *call, enum account_status status, const struct account *account)
{
    struct entry *e = call->ctx;
    struct bulk *b = e->bulk;
    (void)account;
    b->in_flight--;
    b->moved = true;
    if (status == ACCOUNT_OK) {
        e->state = ENTRY_CREATED;
        b->created++;
    } else if (status == ACCOUNT_EXISTS) {
        e->state = ENTRY_EXISTS;
        b->existed++;
    } else {
        b->away = true;
    }
}

static void derived_take(struct bulk *b, const struct derived *d)
{
    struct entry *e = &b->entries[d->index];
    explicit_bzero(e->password, strlen(e->password));
    if (!d->good) {
        entry_wrong(b, e, xstrdup("the password holds characters that SASL does not allow"));
        return;
    }
    e->call.ctx = e;
    b->in_flight++;
    account_create(b->c->redis, span_of(e->jid), &d->keys, b->replace, &e->call, on_created);
}

/* Reads what the pipes hold; false when all have ended. The loop turns in between. */
static bool pipes_read(struct bulk *b)
{
    struct pollfd fds[WORKERS_MAX];
    bool open = false;
    for (unsigned i = 0; i < b->workers; i++) {
        fds[i] = (struct pollfd){.fd = b->pipes[i], .events = POLLIN};
        open |= b->pipes[i] >= 0;
    }
    if (!open || poll(fds, b->workers, 20) < 0)
        return open;
    for (unsigned i = 0; i < b->workers; i++) {
        struct derived d;
        if (fds[i].revents == 0)
            continue;
        if (read(b->pipes[i], &d, sizeof(d)) == sizeof(d)) {
            derived_take(b, &d);
            explicit_bzero(&d, sizeof(d));
        } else {
            close(b->pipes[i]);
            b->pipes[i] = -1;
        }
    }
    return true;
}

static void accounts_write(struct bulk *b, uint32_t iterations)
{
    if (b->count == b->existed + b->wrong || !workers_start(b, iterations))
        return;
    while (!b->away && pipes_read(b))
        ring_turn(b->c->ring, 0);
    drain(b, 0);
    workers_end(b);
}

/* ---- the answer */

static int answer(struct bulk *b)
{
    struct buf out = {0};
    struct json j = {.out = &out};
    size_t left = b->count - b->created - b->existed - b->wrong;
    bool all = left == 0 && b->wrong == 0;
    if (b->c->json) {
        json_open(&j, NULL, '{');
        json_bool(&j, "ok", all);
        json_u64(&j, "created", b->created);
        json_u64(&j, "existed", b->existed);
        json_u64(&j, "not_done", left);
        json_open(&j, "wrong", '[');
    }
    for (size_t i = 0; i < b->count; i++) {
        const struct entry *e = &b->entries[i];
        if (e->state != ENTRY_WRONG)
            continue;
        if (!b->c->json) {
            fprintf(stderr, "jackdawctl: line %u: %s: %s\n", e->line, e->jid, e->error);
            continue;
        }
        json_open(&j, NULL, '{');
        json_u64(&j, "line", e->line);
        json_text(&j, "jid", span_of(e->jid));
        json_text(&j, "error", span_of(e->error));
        json_close(&j, '}');
    }
    if (b->c->json) {
        json_close(&j, ']');
        json_close(&j, '}');
    } else {
        buf_addf(&out, "%zu added", b->created);
        if (b->existed > 0)
            buf_addf(&out, ", %zu existed already (kept; --replace overwrites)", b->existed);
        if (b->wrong > 0)
            buf_addf(&out, ", %zu lines refused", b->wrong);
        if (left > 0)
            buf_addf(&out, ", %zu not done: Redis ceased to answer; run it again", left);
    }
    buf_add_char(&out, '\n');
    ctl_print(&out);
    return left > 0 ? CTL_AWAY : b->wrong > 0 ? CTL_REFUSED : CTL_OK;
}

int ctl_adduser_file(struct ctl *c, const char *file, bool replace, uint32_t iterations)
{
    struct bulk b = {.c = c, .replace = replace};
    int code = CTL_REFUSED;
    if (file_read(&b, file)) {
        code = CTL_AWAY;
        if (ctl_connect(c)) {
            if (!replace)
                existing_find(&b);
            if (!b.away)
                accounts_write(&b, iterations);
            code = answer(&b);
        }
    }
    /* Calls that Redis still owes an answer for point into the entries. */
    if (c->redis != NULL)
        redis_free(c->redis);
    c->redis = NULL;
    for (size_t i = 0; i < b.count; i++) {
        struct entry *e = &b.entries[i];
        if (e->password != NULL)
            explicit_bzero(e->password, strlen(e->password));
        free(e->password);
        free(e->jid);
        free(e->error);
    }
    free(b.entries);
    return code;
}

/* For the tests of common/redis and deploy/ctl: a real redis-server in a directory of its own on a unix
 * socket, and a loop with a client that waits for one reply at a time. */
#ifndef JACKDAW_TESTS_REDIS_SERVER_H
#define JACKDAW_TESTS_REDIS_SERVER_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/redis/redis.h"
#include "common/ring/ring.h"
#include "tests/unit/pace.h"

struct server {
    char dir[64];
    char url[96];
    const char *extra[6]; /* further arguments, NULL-terminated */
    pid_t pid;
};

/* Starts the process; does not wait until it answers. */
static inline void server_start(struct server *s)
{
    char socket_path[80];
    snprintf(socket_path, sizeof(socket_path), "%s/redis.sock", s->dir);
    s->pid = fork();
    assert_true(s->pid >= 0);
    if (s->pid == 0) {
        const char *argv[20] = {"redis-server", "--port", "0", "--unixsocket", socket_path, "--dir",
                                s->dir,         "--save", "",  "--loglevel",   "warning"};
        for (size_t i = 0, n = 11; s->extra[i] != NULL; i++)
            argv[n++] = s->extra[i];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (freopen("/dev/null", "w", stdout) == NULL)
            _exit(126);
        execvp(argv[0], (char **)argv);
        _exit(127);
    }
}

static inline void server_new(struct server *s)
{
    snprintf(s->dir, sizeof(s->dir), "/tmp/jd-redis-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    snprintf(s->url, sizeof(s->url), "unix://%s/redis.sock", s->dir);
    server_start(s);
}

/* Ends the process: SIGKILL is a crash, SIGTERM an orderly end. */
static inline void server_stop(struct server *s, int signal_number)
{
    if (s->pid <= 0)
        return;
    kill(s->pid, signal_number);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
}

static inline void server_free(struct server *s)
{
    char command[96];
    server_stop(s, SIGKILL);
    snprintf(command, sizeof(command), "rm -rf %s", s->dir);
    assert_int_equal(system(command), 0);
}

struct client {
    struct ring *ring;
    struct redis *redis;
    unsigned ups, downs;
};

static inline void client_state(void *ctx, bool up)
{
    struct client *c = ctx;
    if (up)
        c->ups++;
    else
        c->downs++;
}

static inline void client_open(struct client *c, const struct redis_config *config)
{
    const char *why = NULL;
    char *error = NULL;
    c->ring = ring_new(0, &why);
    if (c->ring == NULL) {
        print_message("no loop: %s\n", why);
        fail();
    }
    c->redis = redis_new(c->ring, config, client_state, c, &error);
    assert_non_null(c->redis);
}

static inline void client_new(struct client *c, const char *url, unsigned timeout_ms)
{
    client_open(c, &(struct redis_config){url, timeout_ms, 0});
}

/* Turns until *flag reaches wanted; false after limit_ms. */
static inline bool client_wait(struct client *c, const unsigned *flag, unsigned wanted, unsigned limit_ms)
{
    uint64_t begun = clock_mono_ms();
    while (*flag < wanted && !pace_over(begun, limit_ms))
        ring_turn(c->ring, 20);
    return *flag >= wanted;
}

/* Turns for so long. */
static inline void client_turn(struct client *c, unsigned ms)
{
    uint64_t end = clock_mono_ms() + ms;
    while (clock_mono_ms() < end)
        ring_turn(c->ring, 20);
}

static inline void client_free(struct client *c)
{
    redis_free(c->redis);
    client_turn(c, 50);
    ring_free(c->ring);
    *c = (struct client){0};
}

/* A reply flattened to one line: numbers as they are, texts in quotes, lists in [], NIL, errors with a '-',
 * "lost" without answer. */
static inline void reply_print(struct buf *out, const struct redis_reply *reply)
{
    if (reply == NULL) {
        buf_add_lit(out, "lost");
        return;
    }
    switch (reply->kind) {
    case REDIS_KIND_NIL:
        buf_add_lit(out, "NIL");
        break;
    case REDIS_KIND_TEXT:
        buf_addf(out, "\"%.*s\"", SPAN_FMT(reply->text));
        break;
    case REDIS_KIND_ERROR:
        buf_addf(out, "-%.*s", SPAN_FMT(reply->text));
        break;
    case REDIS_KIND_NUMBER:
        buf_addf(out, "%lld", (long long)reply->number);
        break;
    case REDIS_KIND_LIST:
        buf_add_char(out, '[');
        for (size_t i = 0; i < reply->count; i++) {
            if (i > 0)
                buf_add_char(out, ' ');
            reply_print(out, &reply->items[i]);
        }
        buf_add_char(out, ']');
        break;
    }
}

struct answer {
    struct buf text;
    unsigned came;
};

static inline void answer_take(void *ctx, const struct redis_reply *reply)
{
    struct answer *a = ctx;
    a->came++;
    buf_clear(&a->text);
    reply_print(&a->text, reply);
}

/* One command from a line of words (a word may be '' for the empty text), and its reply as one line; the
 * buffer is static. */
static inline PRINTF_LIKE(2, 3) const char *ask(struct client *c, const char *format, ...)
{
    static struct answer a;
    char line[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    struct span argv[64];
    unsigned argc = 0;
    char *rest = NULL;
    for (char *word = strtok_r(line, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = strcmp(word, "''") == 0 ? SPAN("") : span_of(word);
    a.came = 0;
    redis_command(c->redis, (struct span){0}, argc, argv, answer_take, &a);
    assert_int_equal(a.came, 0);
    assert_true(client_wait(c, &a.came, 1, 5000));
    return buf_cstr(&a.text);
}

#endif

/* The client against a real server: order, once, deadlines, death and return. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "common/base/random.h"
#include "common/redis/reply.h"
#include "tests/unit/redis/server.h"

static int setup(void **state)
{
    struct server *s = calloc(1, sizeof(*s));
    server_new(s);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    server_free(*state);
    free(*state);
    return 0;
}

static void test_reply_split(void **state)
{
    (void)state;
    static const char stream[] =
        "+OK\r\n:42\r\n$-1\r\n$5\r\na\r\nbc\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n-E no\r\n*0\r\n*-1\r\n";
    static const char *const wanted[] = {"\"OK\"", "42", "NIL", "\"a\r\nbc\"", "[1 [\"x\" -E no] []]", "NIL"};
    struct buf text = {0};
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 200; round++) {
        struct reply_reader *rr = reply_reader_new();
        size_t got = 0, at = 0;
        while (at < sizeof(stream) - 1) {
            size_t n = 1 + rng_below(&rng, 12);
            n = MIN(n, sizeof(stream) - 1 - at);
            const struct redis_reply *reply = NULL;
            reply_reader_feed(rr, span_make(stream + at, n));
            at += n;
            while (reply_reader_next(rr, &reply) && reply != NULL) {
                buf_clear(&text);
                reply_print(&text, reply);
                assert_string_equal(buf_cstr(&text), wanted[got++]);
            }
        }
        assert_int_equal(got, ARRAY_LEN(wanted));
        reply_reader_free(rr);
    }
    static const char *const junk[] = {"HTTP/1.1 400\r\n", "*99999999\r\n", "$-7\r\n", "%2\r\n",
                                       "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(junk); i++) {
        struct reply_reader *rr = reply_reader_new();
        const struct redis_reply *reply = NULL;
        reply_reader_feed(rr, span_of(junk[i]));
        assert_false(reply_reader_next(rr, &reply));
        assert_false(reply_reader_next(rr, &reply));
        reply_reader_free(rr);
    }
    buf_free(&text);
}

static void test_commands(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    client_new(&c, s->url, 2000);
    assert_false(redis_is_up(c.redis));
    assert_string_equal(ask(&c, "PING"), "lost"); /* not connected yet: NULL, in a later turn */
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    assert_true(redis_is_up(c.redis));
    assert_string_equal(redis_reason(c.redis), "");
    assert_string_equal(ask(&c, "SET k v"), "\"OK\"");
    assert_string_equal(ask(&c, "GET k"), "\"v\"");
    assert_string_equal(ask(&c, "GET none"), "NIL");
    assert_string_equal(ask(&c, "HSET h a 1 b ''"), "2");
    assert_string_equal(ask(&c, "HGETALL h"), "[\"a\" \"1\" \"b\" \"\"]");
    assert_string_equal(ask(&c, "INCR h"),
                        "-WRONGTYPE Operation against a key holding the wrong kind of value");
    assert_true(redis_is_up(c.redis)); /* an error of one command is no reason to leave */
    assert_string_equal(ask(&c, "FCALL jd_ready 0"), "\"ready\"");
    assert_int_equal(c.downs, 0);
    client_free(&c);
}

static struct {
    unsigned next, total;
    bool in_order;
} order;

static void take_in_order(void *ctx, const struct redis_reply *reply)
{
    order.in_order &= (uintptr_t)ctx == order.next && reply != NULL && reply->kind == REDIS_KIND_NUMBER &&
                      reply->number == (int64_t)order.next + 1;
    order.next++;
}

static void test_pipeline_and_size(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    enum { N = 20000, BIG = 3000000 };
    client_new(&c, s->url, 5000);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    order.in_order = true;
    for (uintptr_t i = 0; i < N; i++)
        redis_send(c.redis, SPAN("n"), take_in_order, (void *)i, SPAN("INCR"), SPAN("n"));
    assert_int_equal(order.next, 0);
    assert_true(client_wait(&c, &order.next, N, 10000));
    assert_true(order.in_order);
    /* A value larger than all receive buffers together, there and back. */
    struct buf big = {0};
    memset(buf_reserve(&big, BIG), 'x', BIG);
    big.n = BIG;
    struct answer a = {0};
    redis_send(c.redis, SPAN("big"), NULL, NULL, SPAN("SET"), SPAN("big"), buf_span(&big));
    redis_send(c.redis, SPAN("big"), answer_take, &a, SPAN("GET"), SPAN("big"));
    assert_true(client_wait(&c, &a.came, 1, 5000));
    assert_int_equal(a.text.n, BIG + 2);
    assert_memory_equal(a.text.p + 1, big.p, BIG);
    buf_free(&big);
    buf_free(&a.text);
    client_free(&c);
}

static void test_away_at_start_then_crash(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    s->extra[0] = "--appendonly";
    s->extra[1] = "yes";
    server_stop(s, SIGKILL);
    client_new(&c, s->url, 1000);
    client_turn(&c, 300);
    assert_int_equal(c.ups, 0);
    assert_true(strlen(redis_reason(c.redis)) > 0);
    assert_string_equal(ask(&c, "PING"), "lost");
    server_start(s);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    assert_string_equal(ask(&c, "SET kept yes"), "\"OK\"");
    /* In flight when it dies: called once, with NULL or with the reply. */
    struct answer a[50] = {0};
    for (size_t i = 0; i < ARRAY_LEN(a); i++)
        redis_send(c.redis, SPAN("x"), answer_take, &a[i], SPAN("INCR"), SPAN("x"));
    server_stop(s, SIGKILL);
    assert_true(client_wait(&c, &c.downs, 1, 3000));
    assert_false(redis_is_up(c.redis));
    server_start(s);
    assert_true(client_wait(&c, &c.ups, 2, 5000));
    assert_string_equal(ask(&c, "GET kept"), "\"yes\"");
    assert_string_equal(ask(&c, "FCALL jd_ready 0"), "\"ready\"");
    for (size_t i = 0; i < ARRAY_LEN(a); i++) {
        assert_int_equal(a[i].came, 1);
        buf_free(&a[i].text);
    }
    assert_int_equal(c.downs, 1);
    client_free(&c);
}

static void test_deadline(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    client_new(&c, s->url, 200);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    kill(s->pid, SIGSTOP);
    struct answer a = {0};
    uint64_t began = clock_mono_ms();
    redis_send(c.redis, SPAN("x"), answer_take, &a, SPAN("PING"));
    assert_true(client_wait(&c, &a.came, 1, 2000));
    assert_in_range(clock_mono_ms() - began, 190, 600);
    assert_string_equal(buf_cstr(&a.text), "lost");
    assert_int_equal(c.downs, 1);
    client_turn(&c, 600); /* attempts against the stopped server */
    assert_int_equal(c.ups, 1);
    kill(s->pid, SIGCONT);
    assert_true(client_wait(&c, &c.ups, 2, 5000));
    assert_string_equal(ask(&c, "PING"), "\"PONG\"");
    assert_int_equal(a.came, 1);
    /* When it was us who stood still, the reply that lies in the socket counts. */
    redis_send(c.redis, SPAN("x"), answer_take, &a, SPAN("PING"));
    ring_turn(c.ring, 0);
    usleep(400000);
    assert_true(client_wait(&c, &a.came, 2, 1000));
    assert_string_equal(buf_cstr(&a.text), "\"PONG\"");
    assert_int_equal(c.downs, 1);
    buf_free(&a.text);
    client_free(&c);
}

static void test_unusable(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    client_new(&c, s->url, 1000);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    /* A replica of nobody: writes are refused, so it is not up until it is a master again. */
    assert_string_equal(ask(&c, "REPLICAOF 127.0.0.1 1"), "\"OK\"");
    struct answer before = {0}, after = {0};
    redis_send(c.redis, SPAN("x"), answer_take, &before, SPAN("SET"), SPAN("x"), SPAN("y"));
    redis_send(c.redis, SPAN("x"), answer_take, &after, SPAN("REPLICAOF"), SPAN("NO"), SPAN("ONE"));
    assert_true(client_wait(&c, &c.downs, 1, 2000));
    assert_int_equal(memcmp(buf_cstr(&before.text), "-READONLY", 9), 0);
    assert_true(client_wait(&c, &c.ups, 2, 5000));
    assert_string_equal(buf_cstr(&after.text), "\"OK\""); /* in flight behind it: still got its answer */
    assert_int_equal(before.came + after.came, 2);
    /* Out of memory: of use all the same. */
    assert_string_equal(ask(&c, "CONFIG SET maxmemory 1"), "\"OK\"");
    assert_int_equal(memcmp(ask(&c, "SET x y"), "-OOM", 4), 0);
    assert_true(redis_is_up(c.redis));
    assert_string_equal(ask(&c, "CONFIG SET maxmemory 0"), "\"OK\"");
    assert_string_equal(ask(&c, "SET x y"), "\"OK\"");
    buf_free(&before.text);
    buf_free(&after.text);
    client_free(&c);
}

static void test_password_and_db(void **state)
{
    struct server *s = *state;
    struct client c = {0}, wrong = {0};
    char url[160];
    server_stop(s, SIGKILL);
    s->extra[0] = "--requirepass";
    s->extra[1] = "s@cret";
    server_start(s);
    snprintf(url, sizeof(url), "unix://:s%%40cret@%s/redis.sock?db=3", s->dir);
    client_new(&c, url, 1000);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    assert_string_equal(ask(&c, "SET a b"), "\"OK\"");
    assert_string_equal(ask(&c, "SELECT 3"), "\"OK\"");
    assert_string_equal(ask(&c, "DBSIZE"), "1");
    client_new(&wrong, s->url, 1000);
    client_turn(&wrong, 300);
    assert_int_equal(wrong.ups, 0);
    assert_non_null(strstr(redis_reason(wrong.redis), "NOAUTH"));
    client_free(&wrong);
    client_free(&c);
}

/* A TCP server that says something else than Redis would; by name, so that the resolver is used too. */
static void test_not_redis(void **state)
{
    (void)state;
    struct client c = {0};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, n), 0);
    assert_int_equal(listen(fd, 5), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &n), 0);
    char url[64];
    snprintf(url, sizeof(url), "redis://localhost:%u", ntohs(in.sin_port));
    pid_t child = fork();
    if (child == 0) {
        for (;;) {
            int peer = accept(fd, NULL, NULL);
            if (write(peer, "220 mail ESMTP\r\n", 16) != 16)
                _exit(1);
            usleep(20000);
            close(peer);
        }
    }
    client_new(&c, url, 500);
    client_turn(&c, 700);
    assert_int_equal(c.ups, 0);
    assert_non_null(strstr(redis_reason(c.redis), "is this Redis?"));
    client_free(&c);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(fd);
}

static void test_forget_and_free(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    client_new(&c, s->url, 1000);
    struct answer gone = {0}, kept = {0};
    redis_send(c.redis, SPAN("x"), answer_take, &gone, SPAN("PING")); /* fails: not connected */
    redis_forget(c.redis, &gone);
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    redis_send(c.redis, SPAN("x"), answer_take, &gone, SPAN("PING"));
    redis_send(c.redis, SPAN("x"), answer_take, &kept, SPAN("PING"));
    redis_forget(c.redis, &gone);
    assert_true(client_wait(&c, &kept.came, 1, 2000));
    assert_int_equal(gone.came, 0);
    redis_send(c.redis, SPAN("x"), answer_take, &gone, SPAN("PING"));
    client_free(&c); /* with a command in flight */
    assert_int_equal(gone.came, 0);
    buf_free(&kept.text);
}

static unsigned frees;

static void free_inside(void *ctx, const struct redis_reply *reply)
{
    struct client *c = ctx;
    (void)reply;
    frees++;
    redis_free(c->redis);
}

static void test_free_inside_callback(void **state)
{
    struct server *s = *state;
    for (int connected = 0; connected < 2; connected++) {
        struct client c = {0};
        client_new(&c, s->url, 1000);
        if (connected)
            assert_true(client_wait(&c, &c.ups, 1, 5000));
        frees = 0;
        for (int i = 0; i < 3; i++)
            redis_send(c.redis, SPAN("x"), free_inside, &c, SPAN("PING"));
        assert_true(client_wait(&c, &frees, 1, 2000));
        client_turn(&c, 50);
        assert_int_equal(frees, 1);
        ring_free(c.ring);
    }
}

static struct {
    unsigned fresh, messages;
    char last[32];
} heard;

static void take_message(void *ctx, struct span message)
{
    (void)ctx;
    if (message.n == 0) {
        heard.fresh++;
        return;
    }
    heard.messages++;
    snprintf(heard.last, sizeof(heard.last), "%.*s", SPAN_FMT(message));
}

static void test_subscribe(void **state)
{
    struct server *s = *state;
    struct client c = {0};
    client_new(&c, s->url, 300);
    redis_subscribe(c.redis, SPAN("jd:epoch"), take_message, NULL);
    assert_true(client_wait(&c, &heard.fresh, 1, 5000));
    assert_true(client_wait(&c, &c.ups, 1, 5000));
    assert_string_equal(ask(&c, "PUBLISH jd:epoch 7"), "1");
    assert_true(client_wait(&c, &heard.messages, 1, 1000));
    assert_string_equal(heard.last, "7");
    client_turn(&c, 1200); /* idle: signs of life keep it */
    assert_int_equal(heard.fresh, 1);
    kill(s->pid, SIGSTOP); /* silent: it is made anew, and says that messages may have been missed */
    client_turn(&c, 900);
    kill(s->pid, SIGCONT);
    assert_true(client_wait(&c, &heard.fresh, 2, 3000));
    if (!redis_is_up(c.redis))
        assert_true(client_wait(&c, &c.ups, 2, 3000));
    assert_string_equal(ask(&c, "PUBLISH jd:epoch 8"), "1");
    assert_true(client_wait(&c, &heard.messages, 2, 1000));
    assert_string_equal(heard.last, "8");
    client_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reply_split),
        cmocka_unit_test_setup_teardown(test_commands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pipeline_and_size, setup, teardown),
        cmocka_unit_test_setup_teardown(test_away_at_start_then_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_deadline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unusable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_password_and_db, setup, teardown),
        cmocka_unit_test(test_not_redis),
        cmocka_unit_test_setup_teardown(test_forget_and_free, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_inside_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_subscribe, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* jackdawctl against a real Redis, and a router's double on the bus. Each call runs in a child process, as it
 * would from a shell. */
#include <fcntl.h>

#include "common/bus/bus.h"
#include "common/member/member.h"
#include "common/sasl/sasl.h"
#include "common/wire/wire.h"
#include "deploy/ctl/ctl.h"
#include "tests/unit/redis/server.h"

struct world {
    struct server server;
    struct client c;
    struct buf out; /* what the last call printed, standard error too */
};

static void file_write(const struct world *w, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", w->server.dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    char config[1024];
    server_new(&w->server);
    client_new(&w->c, w->server.url, 2000);
    assert_true(client_wait(&w->c, &w->c.ups, 1, 5000));
    snprintf(config, sizeof(config),
             "cluster: { domains = [\"localhost\", \"example.com\"]; };\nredis: { url = \"%s\"; };\n"
             "tls: { directory = \"%s\"; };\n",
             w->server.url, w->server.dir);
    file_write(w, "jackdaw.conf", config);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    client_free(&w->c);
    server_free(&w->server);
    buf_free(&w->out);
    free(w);
    return 0;
}

/* Runs "jackdawctl --dir DIR LINE" and returns its exit code; the loop of w->c turns meanwhile. */
static int run(struct world *w, const char *line)
{
    char words[512], *argv[32] = {"jackdawctl", "--dir", w->server.dir}, *rest = NULL;
    int argc = 3, ends[2], status;
    snprintf(words, sizeof(words), "%s", line);
    for (char *word = strtok_r(words, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = word;
    assert_int_equal(pipe(ends), 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, STDIN_FILENO);
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        int code = ctl_main(argc, argv);
        fflush(stdout);
        _exit(code);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    buf_clear(&w->out);
    for (ssize_t n = 1; n != 0;) {
        n = read(ends[0], buf_reserve(&w->out, 4096), 4096);
        if (n > 0)
            w->out.n += (size_t)n;
        else if (n < 0)
            ring_turn(w->c.ring, 5);
    }
    close(ends[0]);
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect(struct world *w, const char *line, int code, const char *wanted)
{
    int is = run(w, line);
    const char *text = buf_cstr(&w->out);
    if (is != code || strstr(text, wanted) == NULL) {
        print_message("jackdawctl %s\n  -> %d: %s  wanted %d: %s\n", line, is, text, code, wanted);
        fail();
    }
}

static void test_account(void **state)
{
    struct world *w = *state;
    expect(w, "adduser Juliet@Example.com --password s3cret", 0, "juliet@example.com added\n");
    expect(w, "adduser juliet@example.com --password other", 1,
           "juliet@example.com: the account exists already");
    expect(w, "adduser juliet@example.com --password other --json", 1,
           "{\"ok\":false,\"error\":\"juliet@example.com: the account exists already\"}\n");
    char first[1024];
    snprintf(first, sizeof(first), "%s", ask(&w->c, "HGET u:{juliet@example.com}:account scram"));
    assert_int_equal(memcmp(first, "\"SCRAM-SHA-1$", 13), 0);
    expect(w, "passwd juliet@example.com --password new --json", 0, "{\"ok\":true}\n");
    assert_string_not_equal(ask(&w->c, "HGET u:{juliet@example.com}:account scram"), first);
    expect(w, "adduser juliet@example.com --password other --replace", 0, "added");
    char file[] = "/tmp/jackdaw-password-XXXXXX", line[128];
    int fd = mkstemp(file);
    assert_int_equal(write(fd, "from a file\n", 12), 12);
    close(fd);
    snprintf(line, sizeof(line), "passwd juliet@example.com --password-file %s", file);
    snprintf(first, sizeof(first), "%s", ask(&w->c, "HGET u:{juliet@example.com}:account scram"));
    expect(w, line, 0, "has a new password");
    assert_string_not_equal(ask(&w->c, "HGET u:{juliet@example.com}:account scram"), first);
    unlink(file);
    expect(w, line, 2, "No such file");
    expect(w, "disable juliet@example.com", 0, "disabled");
    assert_string_equal(ask(&w->c, "HGET u:{juliet@example.com}:account disabled"), "\"1\"");
    expect(w, "enable juliet@example.com", 0, "enabled");
    assert_string_equal(ask(&w->c, "HGET u:{juliet@example.com}:account disabled"), "\"\"");
    expect(w, "deluser juliet@example.com", 0, "deleted");
    expect(w, "deluser juliet@example.com", 1, "there is no such account");
    expect(w, "passwd juliet@example.com --password x", 1, "there is no such account");
    expect(w, "disable juliet@example.com", 1, "there is no such account");
    assert_string_equal(ask(&w->c, "KEYS *"), "[]");
}

static void test_wrong_arguments(void **state)
{
    struct world *w = *state;
    expect(w, "", 2, "usage:");
    expect(w, "bogus", 2, "unknown verb bogus");
    expect(w, "adduser", 2, "an argument is missing");
    expect(w, "adduser a@localhost b@localhost --password x", 2, "too many");
    expect(w, "adduser a@localhost", 2, "no password");
    expect(w, "adduser a@localhost --password", 1 + 1, "empty");
    expect(w, "adduser a@localhost --pasword x", 2, "unknown option --pasword");
    expect(w, "adduser localhost --password x", 1, "not of the form USER@DOMAIN");
    expect(w, "adduser a@localhost/r --password x", 1, "not of the form USER@DOMAIN");
    expect(w, "adduser a@elsewhere --password x", 1, "elsewhere is not a domain of this cluster");
    expect(w, "adduser @ --password x", 1, "is not a JID");
    expect(w, "kick @", 1, "is not a JID");
    expect(w, "--set no.such=1 users", 2, "no.such");
    expect(w, "--timeout x users", 2, "--timeout");
    expect(w, "users --domain", 2, "--domain");
    expect(w, "--help", 0, "usage:");
    expect(w, "--version", 0, "jackdawctl ");
    assert_string_equal(ask(&w->c, "KEYS *"), "[]");
}

static void test_file(void **state)
{
    struct world *w = *state;
    struct buf accounts = {0};
    buf_add_lit(&accounts, "# people\n\nRomeo@localhost  two words \n");
    for (int i = 0; i < 100; i++)
        buf_addf(&accounts, "user%d@example.com pass%d\n", i, i);
    buf_add_lit(&accounts,
                "nobody@elsewhere x\nuser7@example.com again\nnopass@localhost\nctl@localhost a\x07\n");
    file_write(w, "accounts", buf_cstr(&accounts));
    buf_free(&accounts);
    char line[160];
    snprintf(line, sizeof(line), "adduser --iterations 4096 --file %s/accounts --json", w->server.dir);
    expect(w, line, 1,
           "{\"ok\":false,\"created\":101,\"existed\":0,\"not_done\":0,\"wrong\":[{\"line\":104,");
    expect(w, line, 1, "\"created\":0,\"existed\":101,");
    assert_non_null(strstr(buf_cstr(&w->out),
                           "\"line\":105,\"jid\":\"user7@example.com\",\"error\":\"stands in line 11"));
    assert_non_null(strstr(buf_cstr(&w->out), "\"line\":106,"));
    assert_non_null(strstr(buf_cstr(&w->out), "\"line\":107,"));
    expect(w, "users --domain localhost --json", 0, "{\"count\":1,\"users\":[\"romeo@localhost\"]}\n");
    expect(w, "users --json", 0, "{\"count\":101,");
    expect(w, "users --domain example.com", 0, "user0@example.com\nuser10@example.com\nuser11@example.com\n");
    /* The keys are those of the password: PLAIN with it succeeds. */
    const char *scram = ask(&w->c, "HGET u:{romeo@localhost}:account scram");
    struct sasl_keys keys;
    struct sasl_server_config config = {.domain = "localhost", .tls = true};
    struct buf out = {0};
    assert_true(sasl_keys_parse(span_make(scram + 1, strlen(scram) - 2), &keys));
    assert_int_equal(keys.iterations, 4096);
    struct sasl *s = sasl_begin(SASL_PLAIN, &config);
    assert_int_equal(sasl_step(s, true, span_make("\0romeo\0two words ", 17), &out), SASL_NEED_USER);
    assert_int_equal(sasl_user(s, &keys, SPAN("x"), &out), SASL_DONE);
    sasl_free(s);
    buf_free(&out);
    snprintf(line, sizeof(line), "adduser --file %s/none", w->server.dir);
    expect(w, line, 1, "No such file");
}

static void test_away(void **state)
{
    struct world *w = *state;
    server_stop(&w->server, SIGKILL);
    expect(w, "--timeout 1 users", 3, "Redis is away: ");
    expect(w, "--timeout 1 --json adduser a@localhost --password x", 3,
           "{\"ok\":false,\"error\":\"Redis is away: ");
    expect(w, "config-check", 0, "is fine");
    file_write(w, "jackdaw.conf", "c2s: { listen = [\"5222\"]; };\ns2s: { components = [\"irc.x\"]; };\n");
    expect(w, "config-check", 1, "c2s.listen: \"5222\" is no address");
    expect(w, "config-check", 1, "s2s.components: \"irc.x\" has no secret");
    file_write(w, "jackdaw.conf", "tls: { directory = \"/nonexistent/x\"; };\n");
    expect(w, "config-check", 1, "tls.directory: /nonexistent/x cannot be entered");
    file_write(w, "jackdaw.conf", "redis: { url = 5; };\nbogus = 1;\n");
    expect(w, "users", 2, "jackdaw.conf:1");
    expect(w, "config-check", 1, "jackdaw.conf:1");
    expect(w, "config-check --json", 1, "{\"ok\":false,\"error\":");
    expect(w, "config-check /nonexistent", 1, "/nonexistent");
    expect(w, "sample-config", 0, "domains");
}

static void test_sessions(void **state)
{
    struct world *w = *state;
    expect(w, "sessions", 0, "no sessions");
    ask(&w->c, "HSET u:{a@localhost}:sessions phone 1");
    struct buf key = {0};
    redis_send(w->c.redis, SPAN("k"), NULL, NULL, SPAN("HSET"), SPAN("u:{b@localhost}:sessions"),
               SPAN("desk top"), SPAN("1 77 c2s-1 5 3 -2 0 0 0 0 0 0 0 0 0\np <presence/>"), SPAN("gone"),
               SPAN("1 78 c2s-2 6 17 0 0 0 0 0 0 0 0 0 0\n"));
    expect(w, "sessions b@localhost", 0,
           "b@localhost/desk top  available  on c2s-1  priority -2  resumable\n"
           "b@localhost/gone  detached  on c2s-2  priority 0  resumable\n");
    expect(w, "sessions --json", 0,
           "{\"sessions\":[{\"user\":\"a@localhost\",\"resource\":\"phone\",\"state\":\"unknown\"},{\"user\":"
           "\"b@localhost\",\"resource\":\"desk "
           "top\",\"state\":\"available\",\"node\":\"c2s-1\",\"priority\":-2,"
           "\"stream_management\":true},");
    buf_free(&key);
}

#define RENEW                                                                              \
    "FCALL jd_member_renew 4 jd:{cluster}:members jd:{cluster}:leases jd:{cluster}:epoch " \
    "jd:{cluster}:suspects "

static void test_cluster(void **state)
{
    struct world *w = *state;
    expect(w, "cluster", 0, "no process is running");
    expect(w, "kick a@localhost", 3, "no router is running");
    ask(&w->c, RENEW "router-1 18446744073709551615 router ipc:///x 127.0.0.1:1 0 60000 0");
    ask(&w->c, RENEW "router-2 2 router ipc:///y 127.0.0.1:1 1 60000 0");
    ask(&w->c, RENEW "c2s-1 3 c2s ipc:///z '' 0 60000 0");
    expect(w, "cluster --json", 0,
           "\"name\":\"router-1\",\"role\":\"router\",\"incarnation\":\"18446744073709551615\"");
    const char *text = buf_cstr(&w->out);
    assert_non_null(strstr(text, "\"slots\":4096}")); /* router-2 is draining */
    assert_non_null(strstr(text, "\"version\":\"7."));
    expect(w, "cluster", 0, "router-2         router        0  draining");
    expect(w, "stats nobody", 1, "no process is named nobody");
    expect(w, "stats c2s-1", 1, "no stats endpoint");
    expect(w, "stats router-1", 3, "router-1 at 127.0.0.1:1: Connection refused");
}

/* The double of a router: answers CONTROL. */
static char asked[256];

static void router_frame(void *ctx, struct bus_peer *from, struct span frame)
{
    struct wire_frame f;
    struct buf out = {0};
    (void)ctx;
    if (!wire_decode(frame, &f) || f.kind != WIRE_CONTROL || f.slot == UINT16_MAX)
        return;
    snprintf(asked, sizeof(asked), "%.*s %.*s", SPAN_FMT(f.name), SPAN_FMT(f.text));
    struct wire_frame reply = {
        .kind = WIRE_REPLY, .slot = UINT16_MAX, .n = f.n, .text = SPAN("{\"sessions_ended\":2}")};
    if (span_is(f.text, "b@localhost"))
        reply.text = SPAN("{\"sessions_ended\":0}");
    if (span_is(f.text, "c@localhost")) {
        reply.num = 1;
        reply.text = SPAN("");
    }
    wire_add(&out, &reply);
    bus_send(from, buf_span(&out));
    buf_free(&out);
}

static void router_peer(void *ctx, struct bus_peer *peer)
{
    (void)ctx;
    (void)peer;
}

static void router_suspect(void *ctx, struct bus_peer *peer, bool certain)
{
    (void)ctx;
    (void)peer;
    (void)certain;
}

static void test_kick(void **state)
{
    struct world *w = *state;
    static const struct bus_handler handler = {router_frame, router_peer, router_suspect, router_peer,
                                               router_peer};
    char listen[128], *error = NULL;
    snprintf(listen, sizeof(listen), "ipc://%s/router-1.bus", w->server.dir);
    struct bus_config config = {.name = "router-1", .incarnation = 9, .listen = listen, .heartbeat_ms = 100};
    struct bus *bus = bus_new(w->c.ring, &config, &handler, NULL, &error);
    assert_non_null(bus);
    ask(&w->c, RENEW "router-1 9 router %s '' 0 60000 0", bus_endpoint(bus));
    expect(w, "kick A@localhost", 0, "a@localhost: 2 sessions ended");
    assert_string_equal(asked, "kick a@localhost");
    expect(w, "kick a@localhost/Phone --json", 0, "{\"ok\":true}");
    assert_string_equal(asked, "kick a@localhost/Phone");
    expect(w, "kick b@localhost", 1, "b@localhost has no session");
    expect(w, "kick c@localhost", 1, "c@localhost: router-1 cannot do it now");
    /* Who is deleted or locked does not stay on-line. */
    expect(w, "adduser d@localhost --password x", 0, "added");
    expect(w, "disable d@localhost", 0, "disabled");
    assert_string_equal(asked, "kick d@localhost");
    expect(w, "deluser d@localhost", 0, "d@localhost deleted\n");
    assert_string_equal(asked, "forget d@localhost");
    bus_free(bus);
    client_turn(&w->c, 50);
    expect(w, "adduser d@localhost --password x", 0, "added");
    expect(w, "--timeout 1 deluser d@localhost", 0, "may live on");
    expect(w, "--timeout 1 kick a@localhost", 3, "gives no answer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_account, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_arguments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_away, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sessions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cluster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kick, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* For the tests with several real servers on loopback: processes on free TCP ports in one directory. */
#ifndef JACKDAW_TESTS_REDIS_GROUP_H
#define JACKDAW_TESTS_REDIS_GROUP_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/base/random.h"
#include "tests/unit/redis/server.h"

enum { GROUP_MAX = 8 };

struct member {
    pid_t pid;
    unsigned port;
    char dir[96];
    const char *argv[32];
};

struct group {
    char dir[64];
    struct member members[GROUP_MAX];
    unsigned count;
};

static inline bool is_free(unsigned port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    bool ok = bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0;
    close(fd);
    return ok;
}

/* Free now; the servers take them at once. Below those of outgoing connections, and with the port 10,000
 * above, which is that of Redis Cluster's bus. */
static inline unsigned free_port(void)
{
    unsigned port;
    do
        port = 10000 + (unsigned)(random_u64() % 12000);
    while (!is_free(port) || !is_free(port + 10000));
    return port;
}

static inline char *text_of(unsigned number)
{
    char text[16];
    snprintf(text, sizeof(text), "%u", number);
    return strdup(text); /* for argv; lives as long as the test */
}

static inline void group_new(struct group *g)
{
    memset(g, 0, sizeof(*g));
    snprintf(g->dir, sizeof(g->dir), "/tmp/jd-group-XXXXXX");
    assert_non_null(mkdtemp(g->dir));
}

static inline void member_start(struct member *m)
{
    m->pid = fork();
    assert_true(m->pid >= 0);
    if (m->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (freopen("/dev/null", "w", stdout) == NULL)
            _exit(126);
        execvp(m->argv[0], (char **)m->argv);
        _exit(127);
    }
}

static inline void member_kill(struct member *m)
{
    if (m->pid <= 0)
        return;
    kill(m->pid, SIGKILL);
    waitpid(m->pid, NULL, 0);
    m->pid = 0;
}

/* A redis-server with these further arguments (NULL-terminated); does not wait until it answers. */
static inline struct member *group_add(struct group *g, const char *const *extra)
{
    struct member *m = &g->members[g->count];
    m->port = free_port();
    snprintf(m->dir, sizeof(m->dir), "%s/%u", g->dir, g->count++);
    assert_int_equal(mkdir(m->dir, 0700), 0);
    const char *const common[] = {"redis-server", "--port",     text_of(m->port), "--bind", "127.0.0.1",
                                  "--dir",        m->dir,       "--save",         "",       "--appendonly",
                                  "yes",          "--loglevel", "warning"};
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(common); i++)
        m->argv[n++] = common[i];
    for (; *extra != NULL; extra++)
        m->argv[n++] = *extra;
    assert_true(n < ARRAY_LEN(m->argv));
    member_start(m);
    return m;
}

/* A Sentinel that watches 127.0.0.1:master as "shop" with a quorum of two. */
static inline struct member *group_add_sentinel(struct group *g, unsigned master)
{
    struct member *m = &g->members[g->count];
    char conf[128];
    m->port = free_port();
    snprintf(m->dir, sizeof(m->dir), "%s/%u", g->dir, g->count++);
    assert_int_equal(mkdir(m->dir, 0700), 0);
    snprintf(conf, sizeof(conf), "%s/sentinel.conf", m->dir);
    FILE *f = fopen(conf, "w");
    assert_non_null(f);
    fprintf(f,
            "port %u\nbind 127.0.0.1\ndir %s\nsentinel monitor shop 127.0.0.1 %u 2\n"
            "sentinel down-after-milliseconds shop 800\nsentinel failover-timeout shop 3000\n",
            m->port, m->dir, master);
    fclose(f);
    m->argv[0] = "redis-server";
    m->argv[1] = strdup(conf);
    m->argv[2] = "--sentinel";
    member_start(m);
    return m;
}

static inline void group_free(struct group *g)
{
    char command[96];
    for (unsigned i = 0; i < g->count; i++)
        member_kill(&g->members[i]);
    snprintf(command, sizeof(command), "rm -rf %s", g->dir);
    assert_int_equal(system(command), 0);
}

/* What redis-cli prints for these words; static. */
static inline const char *cli(unsigned port, const char *words)
{
    static char out[16384];
    char command[512];
    snprintf(command, sizeof(command), "redis-cli -p %u %s 2>&1", port, words);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, sizeof(out) - 1, f);
    pclose(f);
    while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r'))
        n--;
    out[n] = '\0';
    return out;
}

/* Asks again until the answer holds `wanted`, at most ten seconds. */
static inline void cli_until(unsigned port, const char *words, const char *wanted)
{
    for (unsigned i = 0; i < 200; i++) {
        if (strstr(cli(port, words), wanted) != NULL)
            return;
        usleep(50000);
    }
    fail_msg("%s never said %s, but %s", words, wanted, cli(port, words));
}

#endif

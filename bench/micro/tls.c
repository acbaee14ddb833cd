/* What TLS costs: a full handshake (both sides), and a record of 200 bytes written by one side and read by
 * the other, for one session over and over (hot) and for many in turn (cold). Prints nanoseconds of CPU time,
 * the median of several rounds. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/tls/tls.h"

#define SESSIONS 1024
#define ROUNDS   9
#define RECORDS  8192

struct pair {
    struct tls *client, *server;
};

static struct tls_ctx *ctx;
static struct pair pairs[SESSIONS];
static struct buf plain, to_server, to_client;

static double cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void connect_pair(struct pair *p)
{
    enum tls_status client = TLS_HANDSHAKING, server = TLS_HANDSHAKING;

    p->client = tls_connect(ctx, "localhost");
    p->server = tls_accept(ctx);
    for (unsigned i = 0; i < 8 && (client != TLS_OPEN || server != TLS_OPEN); i++) {
        client = tls_feed(p->client, buf_span(&to_client), &plain, &to_server);
        buf_clear(&to_client);
        server = tls_feed(p->server, buf_span(&to_server), &plain, &to_client);
        buf_clear(&to_server);
    }
    CHECK(client == TLS_OPEN && server == TLS_OPEN);
    tls_feed(p->client, buf_span(&to_client), &plain, &to_server);
    buf_clear(&to_client);
}

static void talk(unsigned sessions)
{
    static const char text[200] = {'x'};

    for (unsigned i = 0; i < RECORDS; i++) {
        struct pair *p = &pairs[i % sessions];
        CHECK(tls_write(p->client, span_make(text, sizeof(text)), &to_server));
        CHECK(tls_feed(p->server, buf_span(&to_server), &plain, &to_client) == TLS_OPEN);
        CHECK(plain.n == sizeof(text));
        buf_clear(&plain);
        buf_clear(&to_server);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void report(const char *what, double *ns)
{
    qsort(ns, ROUNDS, sizeof(ns[0]), by_value);
    printf("%-44s %9.0f ns  (best %.0f)\n", what, ns[ROUNDS / 2], ns[0]);
}

int main(void)
{
    double ns[ROUNDS];
    char *error = NULL;
    struct tls_config config = {0};

    if (system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
               "/CN=localhost "
               "-keyout bench-tls.key -out bench-tls.crt 2>/dev/null") != 0)
        return 1;
    ctx = tls_ctx_new(&config, &error);
    if (ctx == NULL || !tls_ctx_add_cert(ctx, NULL, "bench-tls.crt", "bench-tls.key", &error)) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        double start = cpu_ns();
        for (unsigned i = 0; i < 100; i++) {
            tls_free(pairs[i].client);
            tls_free(pairs[i].server);
            connect_pair(&pairs[i]);
        }
        ns[round] = (cpu_ns() - start) / 100;
    }
    report("handshake, both sides", ns);
    for (unsigned i = 100; i < SESSIONS; i++)
        connect_pair(&pairs[i]);
    for (unsigned round = 0; round < ROUNDS; round++) {
        double start = cpu_ns();
        talk(1);
        ns[round] = (cpu_ns() - start) / RECORDS;
    }
    report("200 bytes written and read, one session", ns);
    for (unsigned round = 0; round < ROUNDS; round++) {
        double start = cpu_ns();
        talk(SESSIONS);
        ns[round] = (cpu_ns() - start) / RECORDS;
    }
    report("200 bytes written and read, 1024 in turn", ns);
    for (unsigned i = 0; i < SESSIONS; i++) {
        tls_free(pairs[i].client);
        tls_free(pairs[i].server);
    }
    tls_ctx_free(ctx);
    remove("bench-tls.key");
    remove("bench-tls.crt");
    return 0;
}

/* What TLS costs: a full handshake (both sides), and a record of 200 bytes written by one side and read by
 * the other, for one session over and over (hot) and for many in turn (cold); the same where the reader has
 * given OpenSSL's session back (tls.slim_after_ms). */
#include "common/tls/tls.h"
#include "bench/micro/measure.h"

#define SESSIONS   1024
#define HANDSHAKES 100
#define RECORDS    8192

struct pair {
    struct tls *client, *server;
};

static struct tls_ctx *ctx;
static bool slim;
static struct pair pairs[SESSIONS];
static struct buf plain, to_server, to_client;

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

/* Connects only what is measured: a thousand handshakes take callgrind minutes. */
static struct pair *pair_at(unsigned i)
{
    if (pairs[i].client == NULL) {
        connect_pair(&pairs[i]);
        CHECK(tls_slim(pairs[i].server) == slim);
    }
    return &pairs[i];
}

static void talk(unsigned sessions)
{
    static const char text[200] = {'x'};

    for (unsigned i = 0; i < RECORDS; i++) {
        struct pair *p = pair_at(i % sessions);
        CHECK(tls_write(p->client, span_make(text, sizeof(text)), &to_server));
        CHECK(tls_feed(p->server, buf_span(&to_server), &plain, &to_client) == TLS_OPEN);
        CHECK(plain.n == sizeof(text));
        buf_clear(&plain);
        buf_clear(&to_server);
    }
}

static void run_handshakes(void)
{
    for (unsigned i = 0; i < HANDSHAKES; i++) {
        tls_free(pairs[i].client);
        tls_free(pairs[i].server);
        connect_pair(&pairs[i]);
    }
}

static void run_hot(void)
{
    talk(1);
}

static void run_cold(void)
{
    talk(SESSIONS);
}

static void free_all(void)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        tls_free(pairs[i].client);
        tls_free(pairs[i].server);
    }
    memset(pairs, 0, sizeof(pairs));
    tls_ctx_free(ctx);
}

/* False when OpenSSL refuses. */
static bool make_ctx(void)
{
    char *error = NULL;
    struct tls_config config = {.slim = slim};

    ctx = tls_ctx_new(&config, &error);
    if (ctx == NULL || !tls_ctx_set_cert(ctx, NULL, "bench-tls.crt", "bench-tls.key", &error)) {
        fprintf(stderr, "%s\n", error);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    measure_only = argc > 1 ? argv[1] : NULL;
    if (system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "
               "/CN=localhost "
               "-keyout bench-tls.key -out bench-tls.crt 2>/dev/null") != 0)
        return 1;
    if (!make_ctx())
        return 1;
    measure("tls, handshake, both sides", HANDSHAKES, 1, run_handshakes);
    pair_at(0);
    measure("tls, 200 bytes written and read", RECORDS, 1, run_hot);
    measure("tls, the same, 1024 sessions in turn", RECORDS, 1, run_cold);
    free_all();
    slim = true;
    if (!make_ctx())
        return 1;
    pair_at(0);
    measure("tls, slim, 200 bytes written and read", RECORDS, 1, run_hot);
    measure("tls, slim, 1024 sessions in turn", RECORDS, 1, run_cold);
    free_all();
    remove("bench-tls.key");
    remove("bench-tls.crt");
    return 0;
}

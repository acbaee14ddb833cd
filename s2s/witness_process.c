/* The witness's side: reads what it is told until that ends. Then, if there was no goodbye: dying → Redis,
 * what others may send again → Redis; for each socket the kernel is asked how many of our bytes the other
 * side has acknowledged (only when that is all that was written), our end is said, and the other side's end
 * in answer is the proof that it has read everything; what that covers → Redis; done → Redis. */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/redis/keys.h"
#include "common/redis/redis.h"
#include "common/ring/ring.h"
#include "s2s/estate.h"
#include "s2s/resume.h"
#include "s2s/witness.h"

#define REDIS_MS 3000 /* for each word to Redis */
#define PROOF_MS 3000 /* for all other servers to end their connections */
#define KEEP_S   "300"
#define TURN_MS  1 /* nothing is under way after the last answer, and others wait */

enum socket_state { SOCKET_FLOWS, SOCKET_SHUT, SOCKET_PROVEN, SOCKET_UNKNOWN };

/* A copy of a stream's socket. */
struct held {
    uint64_t sid;
    int fd;
    bool dialled;
    uint8_t state;
    uint64_t wire;
    struct buf domains; /* each with a NUL behind */
};

struct watcher {
    struct ledger *ledger;
    struct idmap sockets; /* sid → struct held */
    char process[128];
    char *url;
    struct ring *ring;
    struct redis *redis;
    unsigned waiting; /* commands without an answer */
    unsigned failed;
};

/* ---- what it is told ---- */

static void forget(struct watcher *w, uint64_t sid)
{
    struct held *h = idmap_del(&w->sockets, sid);
    if (h == NULL)
        return;
    close(h->fd);
    buf_free(&h->domains);
    free(h);
}

static void on_hello(struct watcher *w, const struct witness_message *m, size_t n, int fd)
{
    size_t process_n = strnlen(m->text, n);
    if (fd < 0 || process_n >= n || process_n >= sizeof w->process)
        return;
    memcpy(w->process, m->text, process_n + 1);
    w->url = span_dup(span_make(m->text + process_n + 1, n - process_n - 2));
    void *at = mmap(NULL, sizeof *w->ledger, PROT_READ, MAP_SHARED, fd, 0);
    w->ledger = at != MAP_FAILED ? at : NULL;
    close(fd);
}

static void on_add(struct watcher *w, const struct witness_message *m, int fd)
{
    struct held *h = xcalloc(1, sizeof *h);
    *h = (struct held){.sid = m->sid, .fd = fd, .dialled = m->dialled != 0};
    forget(w, m->sid);
    idmap_put(&w->sockets, m->sid, h);
}

static int taken_fd(struct msghdr *message)
{
    int fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

/* Until the process ends. True: it has said goodbye. */
static bool listen_to(struct watcher *w, int socket)
{
    static struct witness_message m;
    char control[CMSG_SPACE(sizeof(int))];
    for (;;) {
        struct iovec bytes = {&m, sizeof m};
        struct msghdr message = {
            .msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < (ssize_t)WITNESS_HEADER)
            return false;
        struct held *h = idmap_get(&w->sockets, m.sid);
        size_t text_n = (size_t)n - WITNESS_HEADER;
        if (m.kind == WITNESS_HELLO) {
            on_hello(w, &m, text_n, taken_fd(&message));
        } else if (m.kind == WITNESS_ADD) {
            on_add(w, &m, taken_fd(&message));
        } else if (m.kind == WITNESS_DOMAIN && h != NULL) {
            buf_add(&h->domains, m.text, text_n);
            buf_add_char(&h->domains, '\0');
        } else if (m.kind == WITNESS_DROP) {
            forget(w, m.sid);
        } else if (m.kind == WITNESS_BYE) {
            return true;
        }
    }
}

/* ---- Redis ---- */

static void on_answer(void *ctx, const struct redis_reply *reply)
{
    struct watcher *w = ctx;
    w->waiting--;
    w->failed += reply == NULL || reply->kind == REDIS_KIND_ERROR;
}

#define SAY(w, key, ...)                                          \
    do {                                                          \
        (w)->waiting++;                                           \
        redis_send((w)->redis, key, on_answer, (w), __VA_ARGS__); \
    } while (0)

/* Turns the loop until Redis has answered everything. */
static bool settle(struct watcher *w)
{
    uint64_t end = clock_mono_ms() + REDIS_MS;
    while (w->waiting > 0 && clock_mono_ms() < end)
        ring_turn(w->ring, TURN_MS);
    bool good = w->waiting == 0 && w->failed == 0;
    if (!good)
        log_error("witness", "Redis does not take what process=%s leaves behind: stanzas may come twice",
                  w->process);
    w->failed = 0;
    return good;
}

static void on_state(void *ctx, bool up)
{
    (void)ctx, (void)up;
}

static bool open_redis(struct watcher *w)
{
    struct redis_config config = {.url = w->url, .timeout_ms = REDIS_MS};
    const char *why = NULL;
    char *error = NULL;
    w->ring = ring_new(256, &why);
    w->redis = w->ring != NULL ? redis_new(w->ring, &config, on_state, w, &error) : NULL;
    uint64_t end = clock_mono_ms() + REDIS_MS;
    while (w->redis != NULL && !redis_is_up(w->redis) && clock_mono_ms() < end)
        ring_turn(w->ring, TURN_MS);
    bool good = w->redis != NULL && redis_is_up(w->redis);
    if (!good)
        log_error("witness",
                  "Redis cannot be reached to tell what process=%s leaves behind: stanzas may come twice",
                  w->process);
    free(error);
    return good;
}

/* ---- what the sockets know ---- */

/* Our bytes that the other side's kernel has acknowledged. The SYN counts as one when we sent it. */
static uint64_t acknowledged(const struct held *h)
{
    struct tcp_info info = {0};
    socklen_t n = sizeof info;
    if (getsockopt(h->fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0 ||
        n < offsetof(struct tcp_info, tcpi_bytes_received))
        return 0;
    return info.tcpi_bytes_acked - (info.tcpi_bytes_acked > 0 && h->dialled);
}

/* Reads what comes. 1: it has ended, 0: not yet, -1: the connection is broken. */
static int drain(const struct held *h)
{
    static char bytes[65536];
    ssize_t n;
    while ((n = recv(h->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        continue;
    if (n == 0)
        return 1;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void step(struct held *h)
{
    int unsent = 0, end = drain(h);
    if (end < 0 || (end > 0 && h->state == SOCKET_FLOWS)) {
        h->state = SOCKET_UNKNOWN; /* it was ending by itself: what did it still read? */
    } else if (end > 0) {
        h->state = SOCKET_PROVEN;
    } else if (h->state == SOCKET_FLOWS && ioctl(h->fd, SIOCOUTQ, &unsent) == 0 && unsent == 0) {
        h->wire = acknowledged(h);
        shutdown(h->fd, SHUT_WR);
        h->state = SOCKET_SHUT;
    }
}

/* Ends all connections and sees who has read everything. */
static void prove(struct watcher *w)
{
    uint64_t end = clock_mono_ms() + PROOF_MS;
    unsigned open = 1, proven = 0;
    while (open > 0 && clock_mono_ms() < end) {
        size_t at = 0;
        struct held *h;
        open = proven = 0;
        while ((h = idmap_next(&w->sockets, &at)) != NULL) {
            if (h->state < SOCKET_PROVEN)
                step(h);
            open += h->state < SOCKET_PROVEN;
            proven += h->state == SOCKET_PROVEN;
        }
        if (open > 0)
            usleep(1000);
    }
    log_info("witness", "process=%s is dead: streams=%zu ended=%u not_ended=%u", w->process, w->sockets.count,
             proven, open);
}

/* ---- what it tells ---- */

static void legs_free(struct idmap *legs)
{
    size_t at = 0;
    struct ledger_leg *leg;
    while ((leg = idmap_next(legs, &at)) != NULL)
        free(leg);
    idmap_free(legs);
}

/* The ledger with what the sockets know: all that arrived, or only what was certainly read. */
static void read_ledger(struct watcher *w, struct idmap *legs, bool proven)
{
    size_t at = 0;
    struct held *h;
    while ((h = idmap_next(&w->sockets, &at)) != NULL) {
        struct ledger_leg *leg = xcalloc(1, sizeof *leg);
        leg->sid = h->sid;
        if (!proven)
            leg->wire = acknowledged(h);
        else if (h->state == SOCKET_PROVEN)
            leg->wire = h->wire;
        idmap_put(legs, h->sid, leg);
    }
    ledger_read(w->ledger, legs);
}

static void add_tail(void *ctx, const struct ledger_tail *t)
{
    buf_addf(ctx, "%llu %llu %llu %d\n", (unsigned long long)t->likeness, (unsigned long long)t->sid,
             (unsigned long long)t->n, t->safe);
}

static void tell_tails(struct watcher *w)
{
    struct idmap legs = {0};
    struct held *h;
    size_t at = 0;
    read_ledger(w, &legs, false);
    while ((h = idmap_next(&w->sockets, &at)) != NULL) {
        struct buf tail = {0}, key = {0};
        ledger_tail(w->ledger, idmap_get(&legs, h->sid), add_tail, &tail);
        for (size_t i = 0; tail.n > 0 && i < h->domains.n; i += strlen(h->domains.p + i) + 1) {
            key_s2s_tail(&key, span_of(h->domains.p + i));
            SAY(w, buf_span(&key), SPAN("RPUSH"), buf_span(&key), buf_span(&tail));
            SAY(w, buf_span(&key), SPAN("LTRIM"), buf_span(&key), SPAN(ESTATE_TAILS), SPAN("-1"));
            SAY(w, buf_span(&key), SPAN("EXPIRE"), buf_span(&key), SPAN(ESTATE_TAIL_S));
        }
        buf_free(&tail);
        buf_free(&key);
    }
    legs_free(&legs);
    settle(w);
}

static void tell_sessions(struct watcher *w)
{
    struct buf key = {0}, text = {0};
    for (unsigned i = 0; i < LEDGER_SESSIONS; i++) {
        const struct ledger_session *e = &w->ledger->sessions[i];
        if (e->used == 0)
            continue;
        buf_clear(&text);
        ledger_session_write(e, &text);
        key_s2s_session(&key, span_of(e->id));
        SAY(w, buf_span(&key), SPAN("SET"), buf_span(&key), buf_span(&text), SPAN("EX"), SPAN(RESUME_TTL));
    }
    buf_free(&key);
    buf_free(&text);
}

static void tell_handed(struct watcher *w)
{
    struct idmap legs = {0};
    struct buf handed = {0}, key = {0};
    char word[40];
    read_ledger(w, &legs, true);
    ledger_handed(w->ledger, &legs, &handed);
    log_info("witness", "process=%s has handed over stanzas=%zu", w->process, handed.n / 8);
    key_s2s_handed(&key, span_of(w->process));
    SAY(w, buf_span(&key), SPAN("SET"), buf_span(&key), buf_span(&handed), SPAN("EX"), SPAN(KEEP_S));
    settle(w);
    snprintf(word, sizeof word, "done:%llu", (unsigned long long)clock_wall_ms());
    SAY(w, KEY_S2S, SPAN("HSET"), KEY_S2S, span_of(w->process), span_of(word));
    settle(w);
    legs_free(&legs);
    buf_free(&handed);
    buf_free(&key);
}

static void testify(struct watcher *w)
{
    bool up = open_redis(w);
    if (up) {
        SAY(w, KEY_S2S, SPAN("HSET"), KEY_S2S, span_of(w->process), SPAN("dying"));
        tell_sessions(w);
        tell_tails(w);
    }
    prove(w);
    if (up)
        tell_handed(w);
}

static void watcher_free(struct watcher *w)
{
    size_t at = 0;
    struct held *h;
    while ((h = idmap_next(&w->sockets, &at)) != NULL) {
        close(h->fd);
        buf_free(&h->domains);
        free(h);
    }
    idmap_free(&w->sockets);
    redis_free(w->redis);
    for (unsigned i = 0; w->ring != NULL && i < 20 && ring_busy(w->ring) > 0; i++)
        ring_turn(w->ring, 5);
    ring_free(w->ring);
    if (w->ledger != NULL)
        munmap(w->ledger, sizeof *w->ledger);
    free(w->url);
}

int witness_main(int fd)
{
    struct watcher w = {0};
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};
    for (unsigned i = 0; i < ARRAY_LEN(ignored); i++)
        signal(ignored[i], SIG_IGN); /* it ends when the other one has */
    prctl(PR_SET_NAME, "s2s-witness");
    bool clean = listen_to(&w, fd);
    log_set_name(w.process);
    if (!clean && w.ledger != NULL && w.url != NULL)
        testify(&w);
    watcher_free(&w);
    return 0;
}

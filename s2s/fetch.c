/* A call: the URL's host is looked up by the resolver (so that DNSSEC and s2s.resolver hold here, too), then
 * libcurl is given the addresses and does the rest on the loop: it names sockets and what to wait for
 * (on_socket), and the time of its next step (on_timer_wanted). */
#include "s2s/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <poll.h>
#include <stdlib.h>

#include "common/base/buf.h"
#include "common/config/conf.h"
#include "common/log/log.h"
#include "common/ring/ring.h"
#include "s2s/resolve.h"

#define TIMEOUT_MS      5000L
#define CONNECT_MS      3000L
#define CONNECTIONS_MAX 32L /* at a time; others wait for their turn in libcurl */

struct fetcher {
    struct ring *ring;
    const struct conf *conf;
    struct resolver *resolver;
    CURLM *multi;
    struct timer timer;
    struct timer reap; /* calls that ended are told from here, never from inside libcurl */
    struct list calls;
};

/* A socket of libcurl's; freed when libcurl has let it go and the loop does not hold it either. */
struct fetch_socket {
    struct ring_op op;
    struct fetcher *fetcher; /* NULL = let go */
    curl_socket_t fd;
    unsigned want;
    bool acting;
};

struct fetch_call {
    struct list node;
    struct fetcher *fetcher;
    fetch_fn *fn;
    void *ctx;
    struct resolve_call *lookup;
    CURLU *url;
    CURL *easy;
    struct curl_slist *addresses;
    struct timer timer; /* for a call that ends before it began */
    struct buf body;
    const char *bad;
};

/* ---- the end of a call ---- */

static void call_free(struct fetch_call *c)
{
    resolve_cancel(c->lookup);
    ring_timer_clear(c->fetcher->ring, &c->timer);
    if (c->easy != NULL) {
        curl_multi_remove_handle(c->fetcher->multi, c->easy);
        curl_easy_cleanup(c->easy);
    }
    curl_slist_free_all(c->addresses);
    curl_url_cleanup(c->url);
    buf_free(&c->body);
    list_del(&c->node);
    free(c);
}

static void finish(struct fetch_call *c, enum fetch_result result, const char *why)
{
    c->fn(c->ctx, result, result == FETCH_OK ? buf_span(&c->body) : (struct span){0}, why);
    call_free(c);
}

static void on_reap(struct timer *t, uint64_t now_ms)
{
    struct fetcher *f = CONTAINER_OF(t, struct fetcher, reap);
    CURLMsg *m;
    int left;
    (void)now_ms;
    while ((m = curl_multi_info_read(f->multi, &left)) != NULL) {
        struct fetch_call *c = NULL;
        long status = 0;
        CURLcode code = m->data.result;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        curl_easy_getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
        if (code == CURLE_OK && status == 200)
            finish(c, FETCH_OK, "");
        else if (code == CURLE_COULDNT_CONNECT || (code == CURLE_OK && status >= 300 && status < 500))
            finish(c, FETCH_NONE, "there is no such document");
        else
            finish(c, FETCH_FAILED, code == CURLE_OK ? "its web server fails" : curl_easy_strerror(code));
    }
}

/* ---- libcurl on the loop ---- */

static void act(struct fetcher *f, curl_socket_t fd, int events)
{
    int running;
    curl_multi_socket_action(f->multi, fd, events, &running);
    ring_timer_set(f->ring, &f->reap, 0);
}

static void on_poll(struct ring_op *op, struct ring_result result)
{
    struct fetch_socket *s = CONTAINER_OF(op, struct fetch_socket, op);
    if (s->fetcher != NULL && result.res > 0) {
        s->acting = true;
        act(s->fetcher, s->fd,
            ((result.res & (POLLIN | POLLHUP)) != 0 ? CURL_CSELECT_IN : 0) |
                ((result.res & POLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                ((result.res & POLLERR) != 0 ? CURL_CSELECT_ERR : 0));
        s->acting = false;
    }
    if (s->fetcher == NULL)
        free(s);
    else if (s->want != 0)
        ring_poll(s->fetcher->ring, &s->op, s->fd, s->want, on_poll);
}

static void let_go(struct fetch_socket *s)
{
    struct ring *ring = s->fetcher->ring;
    s->fetcher = NULL;
    if (op_busy(&s->op))
        ring_cancel(ring, &s->op);
    else if (!s->acting)
        free(s);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *known)
{
    struct fetcher *f = ctx;
    struct fetch_socket *s = known;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        curl_multi_assign(f->multi, fd, NULL);
        if (s != NULL)
            let_go(s);
        return 0;
    }
    if (s == NULL) {
        s = xcalloc(1, sizeof *s);
        s->fetcher = f;
        s->fd = fd;
        curl_multi_assign(f->multi, fd, s);
    }
    s->want = ((what & CURL_POLL_IN) != 0 ? POLLIN : 0) | ((what & CURL_POLL_OUT) != 0 ? POLLOUT : 0);
    if (op_busy(&s->op)) /* its last callback asks for what is wanted now */
        ring_cancel(f->ring, &s->op);
    else if (!s->acting && s->want != 0)
        ring_poll(f->ring, &s->op, fd, s->want, on_poll);
    return 0;
}

static int on_timer_wanted(CURLM *multi, long ms, void *ctx)
{
    struct fetcher *f = ctx;
    (void)multi;
    if (ms < 0)
        ring_timer_clear(f->ring, &f->timer);
    else
        ring_timer_set(f->ring, &f->timer, (uint64_t)ms);
    return 0;
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    act(CONTAINER_OF(t, struct fetcher, timer), CURL_SOCKET_TIMEOUT, 0);
}

static size_t on_body(char *bytes, size_t size, size_t count, void *ctx)
{
    struct fetch_call *c = ctx;
    if (c->body.n + size * count > FETCH_BYTES_MAX)
        return 0; /* libcurl ends the transfer with an error */
    buf_add(&c->body, bytes, size * count);
    return size * count;
}

/* ---- starting ---- */

static void options(struct fetch_call *c)
{
    const struct conf *conf = c->fetcher->conf;
    CURL *e = c->easy;
    curl_easy_setopt(e, CURLOPT_PRIVATE, c);
    curl_easy_setopt(e, CURLOPT_CURLU, c->url);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(e, CURLOPT_RESOLVE, c->addresses);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(e, CURLOPT_MAXFILESIZE, (long)FETCH_BYTES_MAX);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(e, CURLOPT_PROXY, "");
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(e, CURLOPT_USERAGENT, "jackdaw/" JACKDAW_VERSION);
    if (conf->s2s_trust_file[0] != '\0') {
        curl_easy_setopt(e, CURLOPT_CAINFO, conf->s2s_trust_file);
        curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    }
}

/* Tells libcurl where the host is: "host:port:address,address". */
static void give_addresses(struct fetch_call *c, const char *host, const char *port,
                           const struct target *targets, unsigned count)
{
    struct buf line = {0};
    buf_addf(&line, "%s:%s:", host, port);
    for (unsigned i = 0; i < count; i++) {
        char text[INET6_ADDRSTRLEN];
        const struct sockaddr_storage *a = &targets[i].address;
        bool v6 = a->ss_family == AF_INET6;
        const void *bytes = v6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
                               : (const void *)&((const struct sockaddr_in *)a)->sin_addr;
        inet_ntop(a->ss_family, bytes, text, sizeof text);
        buf_addf(&line, v6 ? "%s[%s]" : "%s%s", i > 0 ? "," : "", text);
    }
    c->addresses = curl_slist_append(NULL, buf_cstr(&line));
    buf_free(&line);
}

static void on_resolved(void *ctx, enum resolve_result result, const struct target *targets, unsigned count)
{
    struct fetch_call *c = ctx;
    char *host = NULL, *port = NULL;
    c->lookup = NULL;
    if (result != RESOLVE_OK) {
        finish(c, result == RESOLVE_NONE ? FETCH_NONE : FETCH_FAILED, "its web server has no address");
        return;
    }
    curl_url_get(c->url, CURLUPART_HOST, &host, 0);
    curl_url_get(c->url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    give_addresses(c, host, port, targets, count);
    curl_free(host);
    curl_free(port);
    c->easy = curl_easy_init();
    CHECK(c->easy != NULL);
    options(c);
    curl_multi_add_handle(c->fetcher->multi, c->easy);
}

static void on_bad(struct timer *t, uint64_t now_ms)
{
    struct fetch_call *c = CONTAINER_OF(t, struct fetch_call, timer);
    (void)now_ms;
    finish(c, FETCH_FAILED, c->bad);
}

void fetch_start(struct fetcher *f, const char *url, fetch_fn *fn, void *ctx)
{
    struct fetch_call *c = xcalloc(1, sizeof *c);
    char *host = NULL, *scheme = NULL;
    c->fetcher = f;
    c->fn = fn;
    c->ctx = ctx;
    c->timer.fire = on_bad;
    list_add(&f->calls, &c->node);
    c->url = curl_url();
    bool good = curl_url_set(c->url, CURLUPART_URL, url, 0) == CURLUE_OK &&
                curl_url_get(c->url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(c->url, CURLUPART_HOST, &host, 0) == CURLUE_OK;
    if (!good || strcmp(scheme, "https") != 0) {
        c->bad = good ? "the URL is not https" : "the URL is malformed";
        ring_timer_set(f->ring, &c->timer, 0);
    } else {
        c->lookup = resolve_host(f->resolver, span_of(host), on_resolved, c);
    }
    curl_free(host);
    curl_free(scheme);
}

/* ---- the fetcher ---- */

struct fetcher *fetcher_new(struct ring *ring, const struct conf *conf, struct resolver *resolver)
{
    static bool begun;
    if (!begun && curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        log_error("s2s", "libcurl cannot be used: no POSH documents will be fetched");
        return NULL;
    }
    begun = true;
    struct fetcher *f = xcalloc(1, sizeof *f);
    f->ring = ring;
    f->conf = conf;
    f->resolver = resolver;
    f->timer.fire = on_timer;
    f->reap.fire = on_reap;
    list_init(&f->calls);
    f->multi = curl_multi_init();
    CHECK(f->multi != NULL);
    curl_multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
    curl_multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
    curl_multi_setopt(f->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX);
    curl_multi_setopt(f->multi, CURLMOPT_MAXCONNECTS, 1L);
    return f;
}

void fetcher_free(struct fetcher *f)
{
    if (f == NULL)
        return;
    LIST_EACH (it, &f->calls)
        call_free(LIST_ENTRY(it, struct fetch_call, node));
    ring_timer_clear(f->ring, &f->timer);
    ring_timer_clear(f->ring, &f->reap);
    curl_multi_cleanup(f->multi);
    ring_timer_clear(f->ring, &f->timer);
    free(f);
}

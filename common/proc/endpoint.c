/* libmicrohttpd runs one thread that polls its connections; a request is answered at once from the statistics
 * list (relaxed atomic reads) and from two atomic words of the endpoint, so the main thread never waits. */
#include "common/proc/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/stats/stats.h"

#define ALIVE_MAX_MS 10000

struct endpoint {
    int fd; /* until libmicrohttpd has it */
    struct MHD_Daemon *daemon;
    const char *not_ready; /* atomic; NULL = ready */
    uint64_t alive_ms;     /* atomic */
    char address[80];
};

/* Parses "HOST:PORT" or "[HOST]:PORT"; 0 when it isn't one. */
static socklen_t address_parse(const char *text, struct sockaddr_storage *out)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    uint64_t port;
    memset(out, 0, sizeof *out);
    if (colon == NULL || !span_to_u64(span_of(colon + 1), 65535, &port))
        return 0;
    bool bracket = text[0] == '[' && colon > text + 1 && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(colon - text) - (bracket ? 2 : 0), text + (bracket ? 1 : 0));
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        return sizeof *v6;
    }
    return 0;
}

/* Writes the address that the kernel gave. */
static void format_address(int fd, char *out, size_t size)
{
    struct sockaddr_storage addr = {0};
    socklen_t n = sizeof addr;
    char host[INET6_ADDRSTRLEN] = "";
    getsockname(fd, (struct sockaddr *)&addr, &n);
    if (addr.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&addr;
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&addr;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, ntohs(v4->sin_port));
    }
}

struct endpoint *endpoint_open(const char *address, char **error)
{
    struct sockaddr_storage addr;
    socklen_t n = address_parse(address, &addr);
    if (n == 0) {
        *error = xasprintf("stats.listen = \"%s\": must be HOST:PORT with a numeric host", address);
        return NULL;
    }
    int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&addr, n) != 0 || listen(fd, 64) != 0) {
        *error = xasprintf("stats.listen = \"%s\": %s; choose another port, or port 0 for any", address,
                           strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    struct endpoint *e = xcalloc(1, sizeof *e);
    e->fd = fd;
    e->not_ready = "starting";
    e->alive_ms = clock_mono_ms();
    format_address(fd, e->address, sizeof e->address);
    return e;
}

/* Status and body for a path. The return value is the content type; NULL = no such page. */
static const char *endpoint_page(struct endpoint *e, const char *path, unsigned *status, struct buf *body)
{
    *status = MHD_HTTP_OK;
    if (strcmp(path, "/metrics") == 0) {
        stat_write_prometheus(body);
        return "text/plain; version=0.0.4; charset=utf-8";
    }
    if (strcmp(path, "/stats") == 0) {
        stat_write_json(body);
        return "application/json";
    }
    if (strcmp(path, "/healthz") == 0) {
        uint64_t alive_ms = __atomic_load_n(&e->alive_ms, __ATOMIC_RELAXED), now_ms = clock_mono_ms();
        bool alive = now_ms < alive_ms + ALIVE_MAX_MS;
        *status = alive ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        buf_add_str(body, alive ? "ok\n" : "the loop does not turn\n");
        return "text/plain";
    }
    if (strcmp(path, "/readyz") == 0) {
        const char *why = __atomic_load_n(&e->not_ready, __ATOMIC_ACQUIRE);
        *status = why == NULL ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
        buf_addf(body, "%s\n", why == NULL ? "ready" : why);
        return "text/plain";
    }
    return NULL;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload_data,
                                  size_t *upload_size, void **request)
{
    (void)version, (void)upload_data, (void)upload_size, (void)request;
    struct endpoint *e = ctx;
    struct buf body = {0};
    unsigned status;
    const char *type;
    if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        status = MHD_HTTP_METHOD_NOT_ALLOWED;
        type = "text/plain";
        buf_add_lit(&body, "only GET and HEAD\n");
    } else if ((type = endpoint_page(e, url, &status, &body)) == NULL) {
        status = MHD_HTTP_NOT_FOUND;
        type = "text/plain";
        buf_add_lit(&body, "there are /metrics /stats /healthz /readyz\n");
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(body.n, body.p, MHD_RESPMEM_MUST_COPY);
    buf_free(&body);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

bool endpoint_start(struct endpoint *e, char **error)
{
    e->daemon = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL, NULL, on_request, e,
                                 MHD_OPTION_LISTEN_SOCKET, e->fd, MHD_OPTION_CONNECTION_LIMIT, 64u,
                                 MHD_OPTION_CONNECTION_TIMEOUT, 10u, MHD_OPTION_END);
    if (e->daemon == NULL) {
        *error = xasprintf("the stats endpoint on %s does not start: %s", e->address, strerror(errno));
        return false;
    }
    e->fd = -1;
    return true;
}

const char *endpoint_address(const struct endpoint *e)
{
    return e->address;
}

void endpoint_set_not_ready(struct endpoint *e, const char *why)
{
    __atomic_store_n(&e->not_ready, why, __ATOMIC_RELEASE);
}

void endpoint_alive(struct endpoint *e, uint64_t now_ms)
{
    __atomic_store_n(&e->alive_ms, now_ms, __ATOMIC_RELAXED);
}

void endpoint_free(struct endpoint *e)
{
    if (e == NULL)
        return;
    if (e->daemon != NULL)
        MHD_stop_daemon(e->daemon);
    if (e->fd >= 0)
        close(e->fd);
    free(e);
}

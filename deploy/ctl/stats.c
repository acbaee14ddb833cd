/* stats NAME: asks the process's own HTTP endpoint. */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "deploy/ctl/ctl.h"
#include "deploy/ctl/nodes.h"

/* Connects to "HOST:PORT" with a limit on every step; -1 with errno. */
static int dial(const char *address, unsigned timeout_ms)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    const char *colon = strrchr(address, ':');
    if (colon == NULL)
        return errno = EINVAL, -1;
    bool bracketed = address[0] == '[' && colon > address + 1;
    char *host = xstrndup(address + bracketed, (size_t)(colon - address) - 2 * bracketed);
    int error = getaddrinfo(host, colon + 1, &hints, &list), fd = -1;
    free(host);
    if (error != 0)
        return errno = EADDRNOTAVAIL, -1;
    struct timeval limit = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    if (fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen) != 0) {
        int why = errno;
        close(fd);
        fd = -1;
        errno = why;
    }
    freeaddrinfo(list);
    return fd;
}

/* GET path; the body goes to *out. NULL, or why not. */
static const char *http_get(const char *address, const char *path, unsigned timeout_ms, struct buf *out)
{
    int fd = dial(address, timeout_ms);
    if (fd < 0)
        return strerror(errno);
    struct buf request = {0};
    ssize_t n;
    buf_addf(&request, "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n", path, address);
    bool sent = write(fd, request.p, request.n) == (ssize_t)request.n;
    buf_free(&request);
    while (sent && (n = read(fd, buf_reserve(out, 65536), 65536)) > 0)
        out->n += (size_t)n;
    close(fd);
    const char *body = out->n > 0 ? strstr(buf_cstr(out), "\r\n\r\n") : NULL;
    if (!sent || body == NULL)
        return "no answer";
    bool good = strncmp(out->p, "HTTP/1.", 7) == 0 && strncmp(out->p + 8, " 200", 4) == 0;
    buf_consume(out, (size_t)(body + 4 - out->p));
    return good ? NULL : "its endpoint refuses";
}

int ctl_stats(struct ctl *c)
{
    struct ctl_nodes nodes;
    struct buf out = {0};
    int code = CTL_AWAY;
    bool prometheus = ctl_flag(c, "--prometheus");
    if (!ctl_arguments(c, 1, 1))
        return CTL_USAGE;
    if (!ctl_connect(c))
        return CTL_AWAY;
    if (ctl_nodes_get(c, &nodes)) {
        const struct ctl_node *x = ctl_nodes_find(&nodes, span_of(c->argv[0]));
        const char *why = NULL;
        if (x == NULL)
            code = ctl_fail(c, CTL_REFUSED, "no process is named %s; see jackdawctl cluster", c->argv[0]);
        else if (x->node.stats[0] == '\0')
            code = ctl_fail(c, CTL_REFUSED, "%s has no stats endpoint (stats.listen)", c->argv[0]);
        else if ((why = http_get(x->node.stats, prometheus ? "/metrics" : "/stats", c->timeout_ms, &out)) !=
                 NULL)
            code = ctl_fail(c, CTL_AWAY, "%s at %s: %s", c->argv[0], x->node.stats, why);
        else
            code = CTL_OK;
    }
    if (code == CTL_OK) {
        if (out.n > 0 && out.p[out.n - 1] != '\n')
            buf_add_char(&out, '\n');
        ctl_print(&out);
    }
    ctl_nodes_free(&nodes);
    buf_free(&out);
    return code;
}

/* Addresses and sockets: the few calls that are made at once because they never block. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "common/ring/ring.h"

#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

socklen_t ring_address(const char *address, struct sockaddr_storage *out)
{
    const char *colon = strrchr(address, ':');
    struct span host = span_make(address, colon != NULL ? (size_t)(colon - address) : 0);
    char text[INET6_ADDRSTRLEN];
    uint64_t port;
    bool v6;

    memset(out, 0, sizeof(*out));
    if (colon == NULL || !span_to_u64(span_of(colon + 1), 65535, &port))
        return 0;
    v6 = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (v6)
        host = span_sub(host, 1, host.n - 2);
    if (host.n >= sizeof(text))
        return 0;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    if (v6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1 ? sizeof(*in6) : 0;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, text, &in->sin_addr) == 1 ? sizeof(*in) : 0;
}

static bool set(int fd, int level, int option)
{
    return setsockopt(fd, level, option, &(int){1}, sizeof(int)) == 0;
}

static int fail(int fd)
{
    int error = errno;

    if (fd >= 0)
        close(fd);
    return -error;
}

/* "[::]:PORT" where the host has no IPv6: all of IPv4. */
static socklen_t without_ipv6(struct sockaddr_storage *addr)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)addr;
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = in6->sin6_port};

    if (addr->ss_family != AF_INET6 || !IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
        return 0;
    memcpy(addr, &in, sizeof(in));
    return sizeof(in);
}

int ring_listen(const char *address, bool share_port)
{
    struct sockaddr_storage addr;
    socklen_t n = ring_address(address, &addr);
    int fd;

    if (n == 0)
        return -EINVAL;
    fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 && errno == EAFNOSUPPORT && (n = without_ipv6(&addr)) != 0)
        fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && addr.ss_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int)) != 0)
        return fail(fd);
    if (fd < 0 || !set(fd, SOL_SOCKET, SO_REUSEADDR) || !set(fd, IPPROTO_TCP, TCP_NODELAY) ||
        (share_port && !set(fd, SOL_SOCKET, SO_REUSEPORT)) || bind(fd, (struct sockaddr *)&addr, n) != 0 ||
        listen(fd, BACKLOG) != 0)
        return fail(fd);
    return fd;
}

int ring_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || !set(fd, IPPROTO_TCP, TCP_NODELAY))
        return fail(fd);
    return fd;
}

#include "common/bus/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/span.h"
#include "common/ring/ring.h"

#define BACKLOG 1024

static const char *path_of(const char *endpoint)
{
    const char *path = endpoint + 6;

    if (strncmp(endpoint, "ipc://", 6) != 0 || path[0] == '\0' || path[0] == '@' || path[0] == '*' ||
        strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return NULL;
    return path;
}

socklen_t address_of(const char *endpoint, struct sockaddr_storage *out)
{
    struct sockaddr_un *un = (struct sockaddr_un *)out;
    const char *path = path_of(endpoint);

    if (strncmp(endpoint, "tcp://", 6) == 0)
        return ring_address(endpoint + 6, out);
    if (path == NULL)
        return 0;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, strlen(path) + 1);
    return sizeof *un;
}

static int listen_on_path(const char *endpoint, char *bound, size_t size)
{
    struct sockaddr_storage address;
    socklen_t n = address_of(endpoint, &address);
    int fd, error;

    if (n == 0)
        return -EINVAL;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    address_unlink(endpoint);
    if (bind(fd, (struct sockaddr *)&address, n) != 0 || listen(fd, BACKLOG) != 0) {
        error = errno;
        close(fd);
        return -error;
    }
    snprintf(bound, size, "%s", endpoint);
    return fd;
}

/* "HOST:PORT" as ring_listen wants it: a name looked up, * filled in. False when the name is unknown. */
static bool numeric(const char *address, char *out, size_t size)
{
    struct sockaddr_storage ignored;
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char host[256], text[INET6_ADDRSTRLEN];

    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return false;
    snprintf(host, sizeof host, "%.*s", (int)(colon - address), address);
    snprintf(out, size, "%s:%s", strcmp(host, "*") == 0 ? "0.0.0.0" : host,
             strcmp(colon + 1, "*") == 0 ? "0" : colon + 1);
    if (ring_address(out, &ignored) > 0)
        return true;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return false;
    bool v6 = found->ai_family == AF_INET6;
    bool ok = getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0;
    freeaddrinfo(found);
    snprintf(out, size, v6 ? "[%s]:%s" : "%s:%s", text, strcmp(colon + 1, "*") == 0 ? "0" : colon + 1);
    return ok;
}

static int listen_on_host(const char *address, char *bound, size_t size)
{
    struct sockaddr_storage at;
    socklen_t n = sizeof at;
    char where[300], host[INET6_ADDRSTRLEN], port[8];
    int fd;

    if (!numeric(address, where, sizeof where))
        return -EINVAL;
    fd = ring_listen(where, false);
    if (fd < 0)
        return fd;
    if (getsockname(fd, (struct sockaddr *)&at, &n) != 0 ||
        getnameinfo((struct sockaddr *)&at, n, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        close(fd);
        return -EINVAL;
    }
    snprintf(bound, size, at.ss_family == AF_INET6 ? "tcp://[%s]:%s" : "tcp://%s:%s", host, port);
    return fd;
}

int address_listen(const char *endpoint, char *bound, size_t size)
{
    if (strncmp(endpoint, "tcp://", 6) == 0)
        return listen_on_host(endpoint + 6, bound, size);
    return listen_on_path(endpoint, bound, size);
}

void address_unlink(const char *endpoint)
{
    const char *path = path_of(endpoint);

    if (path != NULL)
        unlink(path);
}

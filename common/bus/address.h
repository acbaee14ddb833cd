/* Endpoints in ZeroMQ's spelling, ipc://PATH and tcp://HOST:PORT, as sockets. Inside the room. */
#ifndef JACKDAW_BUS_ADDRESS_H
#define JACKDAW_BUS_ADDRESS_H

#include <sys/socket.h>

#include "common/base/base.h"

/* The socket address of an endpoint with a numeric host. Returns its length, or 0 when it is none. */
socklen_t address_of(const char *endpoint, struct sockaddr_storage *out);

/* A listening socket there: tcp's host may be a name or *, its port * for any; a stale path of ipc is
 * replaced. Writes the endpoint that others dial into bound. The descriptor, or -errno (-EINVAL: no such
 * endpoint). */
int address_listen(const char *endpoint, char *bound, size_t size);

/* Removes the path of an ipc endpoint; nothing else. */
void address_unlink(const char *endpoint);

#endif

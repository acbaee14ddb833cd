#include "common/bus/socket.h"

/* Encryption is libzmq's (CURVE). In clear the loop carries a message for a third of the CPU time
 * (bench/README.md). */
struct bus_socket *bus_socket_open(struct ring *ring, const struct bus_socket_config *config, char **error)
{
    bool encrypted = config->curve_secret_key != NULL && config->curve_secret_key[0] != '\0';

    *error = NULL;
    if (encrypted || config->libzmq)
        return bus_socket_open_zmq(ring, config, error);
    return bus_socket_open_ring(ring, config, error);
}

char *bus_socket_no_listener(const char *endpoint, const char *why)
{
    return xasprintf("cannot listen on %s: %s; set bus.listen to ipc://PATH in a directory of this user "
                     "or to tcp://HOST:PORT",
                     endpoint, why);
}

/* Put before libstrophe's examples, which know only the standard port: the server is where the environment
 * says. */
#include <stdlib.h>
#include <strophe.h>

#define xmpp_connect_client(conn, host, port, handler, data) \
    (xmpp_connect_client)(conn, getenv("XMPP_HOST"), (unsigned short)atoi(getenv("XMPP_PORT")), handler, data)

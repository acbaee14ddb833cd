/* The PROXY protocol, versions 1 and 2: the true address of a client behind a load balancer. Pure. */
#ifndef JACKDAW_C2S_PROXY_H
#define JACKDAW_C2S_PROXY_H

#include <sys/socket.h>

#include "common/base/span.h"

/* Longest header that is taken, bytes. */
#define PROXY_MAX_BYTES 4096

enum proxy_status {
    PROXY_MORE, /* not complete */
    PROXY_OK,   /* n bytes are the header */
    PROXY_BAD   /* not a PROXY header */
};

struct proxy_header {
    size_t n;
    bool known; /* address is set; else (UNKNOWN, LOCAL, no inet family) the connection's own one counts */
    struct sockaddr_storage address; /* the client's */
};

/* Reads the header at the start of in. */
enum proxy_status proxy_parse(struct span in, struct proxy_header *out);

#endif

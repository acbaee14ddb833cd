/* What others may ask of a peer. */
#include "common/bus/peer.h"

bool bus_ready(const struct bus_peer *p)
{
    return link_ready(&p->link);
}

const char *bus_peer_name(const struct bus_peer *p)
{
    return p->link.peer_name;
}

uint64_t bus_peer_incarnation(const struct bus_peer *p)
{
    return p->link.peer_incarnation;
}

bool bus_peer_is_linked(const struct bus_peer *p)
{
    return p->linked;
}

bool bus_peer_is_up(const struct bus_peer *p)
{
    return p->link.state == LINK_STATE_UP;
}

void bus_peer_set_data(struct bus_peer *p, void *data)
{
    p->data = data;
}

void *bus_peer_data(const struct bus_peer *p)
{
    return p->data;
}

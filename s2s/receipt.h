/* Who waits to hear that a stanza is safe: a router (DONE) or the stream that brought it (its h). A stanza
 * that goes to several targets has one receipt with several references; the last one to go says it. */
#ifndef JACKDAW_S2S_RECEIPT_H
#define JACKDAW_S2S_RECEIPT_H

#include "common/base/base.h"

struct s2s;
struct bus_peer;

struct receipt {
    unsigned refs;
    uint64_t identity;    /* hash of sid, n and target of a message from a router, for resends; 0 = none */
    uint64_t token;       /* the router's */
    uint64_t incarnation; /* and who it is */
    char node[64];        /* empty: a stream's */
    uint64_t sid;         /* the stream's stanza */
    uint64_t n;
};

/* A receipt with one reference. */
struct receipt *receipt_for_router(const struct bus_peer *router, uint64_t token);
struct receipt *receipt_for_source(uint64_t sid, uint64_t n);

/* One more reference; returns r. NULL is allowed. */
static inline struct receipt *receipt_ref(struct receipt *r)
{
    if (r != NULL)
        r->refs++;
    return r;
}

/* Drops a reference; with the last, tells. NULL is allowed (nobody waits). */
void receipt_unref(struct s2s *s, struct receipt *r);

#endif

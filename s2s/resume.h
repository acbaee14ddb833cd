/* Resumption of server streams (XEP-0198 §5), on the receiving side: a stream that broke can be taken up on
 * any federation process. What that needs is what the stream was called towards routers and how far it was
 * handled; the process that had it leaves that in Redis when the stream breaks, or when another process asks
 * for it, and its witness does when the process is dead. On a stream that goes both ways, that process also
 * keeps what it had sent and was not acknowledged, until whoever takes the stream up tells how much of it the
 * peer has; the rest it sends on a stream of its own. (What is kept, there and on the initiating side: struct
 * suspended of domain.h.) */
#ifndef JACKDAW_S2S_RESUME_H
#define JACKDAW_S2S_RESUME_H

#include "common/base/list.h"
#include "common/base/span.h"

#define RESUME_S   120 /* so long after a stream broke it may be resumed */
#define RESUME_TTL "120"

struct s2s;
struct leg;

struct resume_hub {
    struct list waits;  /* struct wait */
    uint32_t next_slot; /* where to look for a free one in the ledger */
};

/* Prepares / listens to other processes / frees. */
void resume_init(struct s2s *s);
void resume_listen(struct s2s *s);
void resume_free(struct s2s *s);

/* Gives a stream an id by which it may be resumed. False: it may not. */
bool resume_offer(struct leg *l);

/* More of it is handled. */
void resume_handled(struct leg *l);

/* It has ended; l->broken: without a word, so it may be resumed. */
void resume_over(struct leg *l);

/* The peer wants to resume a stream, of which it has h stanzas, on this one, on which nothing has come yet.
 * Answered later. */
void resume_ask(struct leg *l, struct span id, struct span h);

#endif

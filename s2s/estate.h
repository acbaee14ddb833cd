/* What dead federation processes leave behind, and how those that live take it over so that every stanza
 * reaches the other side once.
 *
 * Out: a stanza that a router sends again (flag AGAIN) may have been handed over by a process that died. It,
 * and all that routers send behind it, waits until the witness of each dead process has said which stanzas
 * that one has handed over; those are done. In: when a remote domain is proven on a stream, what it may send
 * again of a stream that broke is asked for; a stanza that looks like one of those gets the identity that it
 * had, so that its home router knows it. Both need Redis; without it, and after ESTATE_PATIENCE_MS, stanzas
 * go on and may come twice, but are not lost. */
#ifndef JACKDAW_S2S_ESTATE_H
#define JACKDAW_S2S_ESTATE_H

#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/timers.h"
#include "common/wire/wire.h"

#define ESTATE_PATIENCE_MS 8000
#define ESTATE_TAIL_S      "120" /* so long Redis keeps what a domain may send again … */
#define ESTATE_TAILS       "-64" /* … of so many streams of it that broke */

struct s2s;
struct bus_peer;
struct leg;

struct estate_hub {
    char self[128];     /* "NAME:INCARNATION" */
    bool registered;    /* Redis knows that this process is there */
    bool asking;        /* a question to Redis is under way */
    struct list frames; /* struct kept: of routers, in order */
    struct map others;  /* process → struct other: dead ones */
    struct idmap tails; /* likeness → struct tail, oldest first */
    struct list asks;   /* struct ask */
    struct timer timer;
    uint64_t timer_from_ms; /* the first of frames waits since then */
    uint64_t tail_ms;       /* the last tail was loaded then */
};

/* Prepares / enters this process into Redis (again and again until it is) / takes it out at a clean end /
 * frees. */
void estate_init(struct s2s *s);
void estate_enter(struct s2s *s);
void estate_leave(struct s2s *s);
void estate_free(struct s2s *s);

/* True when a frame of a router has to wait; it is kept and given to uplink_taken later. */
bool estate_keeps(struct s2s *s, struct bus_peer *from, const struct wire_frame *f, struct span frame);

/* A remote domain is proven on a leg: reading pauses until it is known what that domain may send again. */
void estate_ask(struct leg *l, struct span domain);

/* True when a stanza is one that was sent before; its identity is then *sid and *n, and *safe says that a
 * router has it. Only for a stanza that has an id or was delayed: another that looks the same is the same. */
bool estate_match(struct s2s *s, uint64_t likeness, uint64_t *sid, uint64_t *n, bool *safe);

/* A stream that counted has broken while this process lives: what came over it and was not acknowledged may
 * be sent again, here or to another process. */
void estate_leg_lost(struct leg *l, struct span domain);

#endif

/* Between this process and the others: stanzas for local users go to their home routers, those for a
 * component whose connection another s2s process has go there; each is kept until DONE and sent again, in
 * order, when its slot moves, its router dies or asks for it (wire.h). Stanzas that come are handed on with a
 * receipt, which becomes their DONE. */
#ifndef JACKDAW_S2S_UPLINK_H
#define JACKDAW_S2S_UPLINK_H

#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/base/timers.h"
#include "common/member/member.h"
#include "common/outbox/outbox.h"
#include "common/stanza/stanza.h"
#include "common/wire/wire.h"
#include "s2s/receipt.h"

struct bus_peer;

struct uplink_hub {
    struct outbox outbox;        /* of struct pending */
    struct list forwards;        /* of them, those for other s2s processes, in order */
    const struct bus_peer *lost; /* while uplink_peer_gone is at work */
    struct idmap taken;          /* identity → struct receipt, on its way out */
    struct idmap recent, older;  /* identities that were done, two generations */
    struct map dones;            /* node → struct done_list, what this turn confirms */
    struct timer flush;
    struct timer retry;
    bool from_gateway; /* the frame being taken is another s2s process's: it goes no further than here */
};

/* Prepares / frees. */
void uplink_init(struct s2s *s);
void uplink_free(struct s2s *s);

/* Gives a stanza for a local user or domain to its home router. sid, n: its identity at its origin (0 = our
 * own). The receipt's reference is taken over. */
void uplink_route(struct s2s *s, const struct stanza *stanza, struct receipt *receipt, uint64_t sid,
                  uint64_t n);

/* Gives it to another s2s process. */
void uplink_forward(struct s2s *s, const char *node, const struct stanza *stanza, struct receipt *receipt,
                    uint64_t sid, uint64_t n);

/* A dead process has handed a stanza of this identity over: when a router sends it again it is done. */
void uplink_had(struct s2s *s, uint64_t identity);

/* Takes a stanza of a router, at once or after estate.c has kept it. */
void uplink_taken(struct s2s *s, const struct wire_frame *f, struct bus_peer *from);

/* A router's stanza is done: it hears so at the end of the turn. */
void uplink_done(struct s2s *s, const struct receipt *r);

/* Frames, links, epochs. */
void uplink_frame(struct s2s *s, struct bus_peer *from, struct span frame);
void uplink_peer_up(struct s2s *s);
void uplink_peer_gone(struct s2s *s, struct bus_peer *peer);
void uplink_epoch(struct s2s *s);

#endif

/* Links between processes over ZeroMQ (owned here): ordered, each frame once while both incarnations live,
 * with credit. In clear the loop speaks ZeroMQ's protocol itself; what is encrypted goes through libzmq.
 *
 * ZeroMQ forgets silently, so a link has its own numbers: every batch carries the sender's incarnation, a
 * sequence number and the highest sequence taken from the other side; what is not acknowledged is kept and
 * sent again after a reconnect. A new incarnation of the peer voids what the old one had not taken: `gone`
 * tells, and the owner of the work sends it again where it belongs. All frames of a turn to one peer leave as
 * one message (a turn hook).
 *
 * Topology: one ROUTER socket per process. Of two processes that should be linked, the one that was told to
 * (bus_link with connect = true) connects. link.h has the state machine without I/O. */
#ifndef JACKDAW_BUS_BUS_H
#define JACKDAW_BUS_BUS_H

#include "common/base/span.h"

struct ring;
struct bus;
struct bus_peer;

struct bus_config {
    const char *name;             /* own node name */
    uint64_t incarnation;         /* drawn at start, never 0 */
    const char *listen;           /* ipc://… or tcp://… (port * = any); NULL or "": only dials (tools) */
    const char *curve_secret_key; /* Z85; NULL or "" = links in clear */
    bool libzmq;                  /* links in clear, too, by libzmq's threads; else by the loop */
    unsigned heartbeat_ms;
    size_t window_bytes; /* unacknowledged bytes per link before bus_ready says no; 0 = default 4 MiB */
};

struct bus_handler {
    void (*frame)(void *ctx, struct bus_peer *from, struct span frame); /* borrowed for the call */
    void (*up)(void *ctx, struct bus_peer *peer); /* both sides know each other's incarnation; frames flow.
                                                     Once per peer object, not again after a reconnect */
    void (*suspect)(void *ctx, struct bus_peer *peer,
                    bool certain); /* silent for 5 heartbeats (told again after as long); certain: after a
                                      live link its endpoint refuses connections */
    void (*gone)(void *ctx,
                 struct bus_peer *peer); /* its incarnation ended, it forgot the link, or bus_unlink: what it
                                            has not acknowledged is dropped. The object dies after this call
                                            (it may be used until the end of the turn); a new link is a new
                                            object. Also for a peer that never came up */
    void (*room)(void *ctx, struct bus_peer *peer); /* below half the window after bus_ready said no */
};

/* A new bus, listening. NULL with *error set (caller frees). All handler functions are required, the struct
 * is borrowed. */
struct bus *bus_new(struct ring *ring, const struct bus_config *config, const struct bus_handler *handler,
                    void *ctx, char **error);

/* Closes everything at once, without calling gone; what is unsent is dropped (see bus_is_idle). Not from
 * inside a handler. Polls end in the next turns of the ring. */
void bus_free(struct bus *b);

/* True when every frame queued so far to a peer that is up has been acknowledged: an orderly end waits for
 * it. */
bool bus_is_idle(const struct bus *b);

/* The endpoint that others connect to (the port filled in), "" when it doesn't listen. */
const char *bus_endpoint(const struct bus *b);

/* Wants a link to that incarnation of a node (0: whichever answers, for tools); connect: this side dials.
 * endpoint may be NULL when it does not; with it a lost peer's death can be told for certain. Calling it
 * again for the same incarnation does nothing; for another one the old link goes (gone is called). Peers that
 * nobody linked may also dial in and say hello (jackdawctl): they come up like the others. */
struct bus_peer *bus_link(struct bus *b, const char *name, uint64_t incarnation, const char *endpoint,
                          bool connect);

/* Ends a link: the node has left or is dead. Calls gone. */
void bus_unlink(struct bus *b, const char *name);

/* The peer of that name, or NULL. */
struct bus_peer *bus_peer(struct bus *b, const char *name);

/* The most bytes that a frame may have. */
#define BUS_FRAME_MAX (32u << 20)

/* Queues a frame (copied) for this turn's batch. Before the link is up it waits. False, counted and logged,
 * when it is larger than BUS_FRAME_MAX; see bus_ready. */
bool bus_send(struct bus_peer *p, struct span frame);

/* In place of bus_send without the copy: returns where a frame of at most n bytes may be written, NULL when
 * that is too large, as above; bus_commit ends it with its true size. Nothing else may be sent to this peer
 * between the two. */
char *bus_reserve(struct bus_peer *p, size_t n);
void bus_commit(struct bus_peer *p, size_t n);

/* False when more than the window is unacknowledged: the caller should stop producing (back-pressure);
 * bus_send still takes what it gives. */
bool bus_ready(const struct bus_peer *p);

/* Who it is. */
const char *bus_peer_name(const struct bus_peer *p);
uint64_t bus_peer_incarnation(const struct bus_peer *p);
bool bus_peer_is_linked(const struct bus_peer *p); /* bus_link wants this very incarnation */
bool bus_peer_is_up(const struct bus_peer *p);

/* A pointer of the owner's, NULL at first. */
void bus_peer_set_data(struct bus_peer *p, void *data);
void *bus_peer_data(const struct bus_peer *p);

#endif

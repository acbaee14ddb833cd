/* A connection of a model of a connection manager (manager.c), with what its session and its uplink keep. */
#ifndef JACKDAW_TESTS_SIM_MANAGER_H
#define JACKDAW_TESTS_SIM_MANAGER_H

#include "tests/sim/sim.h"

enum conn_state { STATE_BIND, STATE_OPENING, STATE_RESUMING, STATE_BOUND, STATE_ENDED };
enum hold { HOLD_ANSWER = 1, HOLD_QUEUE = 2, HOLD_ROUTE = 4 };

struct item {
    struct item *next;
    uint64_t n;
    size_t size;
    char frame[];
};

struct manager_conn {
    struct list node; /* in node.conns */
    struct node *c2s;
    struct stream_pipe *pipe;            /* NULL: the socket is gone */
    struct line *held_first, *held_last; /* read and not taken */
    enum conn_state state;
    unsigned holds;
    char bare[32], jid[32], text[40]; /* text: the resource or the SM id of the question */
    uint16_t slot;
    /* session */
    uint64_t sid, in_n, in_handled, in_base, out_n, out_acked, out_base, out_confirm, confirmed, sm_owes_n,
        sm_asked_n;
    uint32_t out_acked_h;
    bool sm_wanted, sm, resumable, sm_owes_ack, sm_asked, out_n_unknown, flow;
    /* uplink */
    struct endpoint *peer;
    bool waiting, in_map; /* in_map: frames for its sid find it */
    struct item *first, *last;
    unsigned count;
    enum wire_kind asked;
    bool known, asked_once, syncing, close_wanted, close_told, keep;
    uint32_t enable_s;
    uint64_t tries, asked_as, asked_us;
    uint64_t tried_n, expires_us, open_until_us;
    enum wire_close close_how;
};

#endif

/* Requests that were made in a user's name for somebody else (XEP-0356 §6): who gets the answer. */
#ifndef JACKDAW_ROUTER_ASKED_H
#define JACKDAW_ROUTER_ASKED_H

#include "common/base/buf.h"
#include "common/base/map.h"

struct core;

/* Zero is empty. */
struct asked_table {
    struct map requests;
};

/* Remembers that `user` (bare) asks `whom` under that id for `requester`, who knows it as his_id. False: the
 * same is under way already, or too much is. Without an answer for a minute the requester gets
 * remote-server-timeout. */
bool asked_add(struct core *c, struct span user, struct span whom, struct span id, struct span requester,
               struct span his_id);

/* An iq came to the user from `whom`: takes the request out and appends requester and his_id. False: nobody
 * has asked. */
bool asked_take(struct core *c, struct span user, struct span whom, struct span id, struct buf *requester,
                struct buf *his_id);

/* Forgets all. */
void asked_free(struct core *c);

#endif

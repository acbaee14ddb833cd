/* Bytes from Redis to replies. Internal to common/redis. */
#ifndef JACKDAW_REDIS_REPLY_H
#define JACKDAW_REDIS_REPLY_H

#include "common/redis/redis.h"

struct reply_reader;

/* A reader for the bytes of one connection. Free with reply_reader_free (NULL is allowed). */
struct reply_reader *reply_reader_new(void);
void reply_reader_free(struct reply_reader *rr);

/* Takes bytes as they come. */
void reply_reader_feed(struct reply_reader *rr, struct span bytes);

/* The next complete reply into *out (valid until the next call), NULL when there is none yet. False when the
 * bytes are no RESP2: the connection is of no use any more. */
bool reply_reader_next(struct reply_reader *rr, const struct redis_reply **out);

#endif

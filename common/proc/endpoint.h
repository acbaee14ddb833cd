/* The stats endpoint: /metrics (Prometheus), /stats (JSON), /healthz and /readyz over HTTP, on a thread of
 * its own that only reads statistics and the two words set here. Owns libmicrohttpd. */
#ifndef JACKDAW_PROC_ENDPOINT_H
#define JACKDAW_PROC_ENDPOINT_H

#include "common/base/base.h"

struct endpoint;

/* Opens the listening socket on "HOST:PORT" (numeric host, port 0 = any); nothing is answered yet. NULL with
 * *error set (caller frees). */
struct endpoint *endpoint_open(const char *address, char **error);

/* Starts the thread: after every metric is registered. False with *error set (caller frees). */
bool endpoint_start(struct endpoint *e, char **error);

/* Where it listens, "HOST:PORT" with the true port; valid until endpoint_free. */
const char *endpoint_address(const struct endpoint *e);

/* Sets what /readyz answers: NULL = ready, 200; else 503 and this text. Static text only: the thread reads it
 * at any time. */
void endpoint_set_not_ready(struct endpoint *e, const char *why);

/* The loop turns: /healthz answers 503 when this was last called more than 10 s ago. now_ms: monotonic. */
void endpoint_alive(struct endpoint *e, uint64_t now_ms);

/* Stops the thread and frees. NULL is allowed. */
void endpoint_free(struct endpoint *e);

#endif

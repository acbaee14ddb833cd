/* Small documents over HTTPS: one GET at a time each, limited in size and time, certificate and name of the
 * server checked, no redirects by HTTP, addresses by our own resolver. Owns libcurl. */
#ifndef JACKDAW_S2S_FETCH_H
#define JACKDAW_S2S_FETCH_H

#include "common/base/span.h"

struct conf;
struct fetcher;
struct resolver;
struct ring;

#define FETCH_BYTES_MAX 65536

enum fetch_result {
    FETCH_OK,
    FETCH_NONE,  /* the server says that there is no such document, or there is no server */
    FETCH_FAILED /* no answer, not in time, too much, or from somebody whose certificate is not good */
};

/* body: borrowed for the call, empty but for FETCH_OK; why: static or borrowed, for the log. */
typedef void fetch_fn(void *ctx, enum fetch_result result, struct span body, const char *why);

/* A fetcher that trusts the authorities of s2s.trust_file. NULL: libcurl refuses (logged). */
struct fetcher *fetcher_new(struct ring *ring, const struct conf *conf, struct resolver *resolver);

/* Frees it; calls that are under way are forgotten. The resolver must still be there. */
void fetcher_free(struct fetcher *f);

/* Gets an https: URL (others answer FETCH_FAILED). fn is called once: not from inside the call, and
 * not after fetcher_free. */
void fetch_start(struct fetcher *f, const char *url, fetch_fn *fn, void *ctx);

#endif

/* Where Redis is, taken apart. Internal to common/redis. */
#ifndef JACKDAW_REDIS_URL_H
#define JACKDAW_REDIS_URL_H

#include "common/base/buf.h"

enum redis_mode { REDIS_SINGLE, REDIS_CLUSTER, REDIS_SENTINEL };

struct redis_address {
    char *host;
    char *port;
};

/* All strings owned; NULL = not given. */
struct redis_url {
    enum redis_mode mode;
    struct redis_address at; /* REDIS_SINGLE without path: where to connect */
    char *path;              /* REDIS_SINGLE: the unix socket */
    struct redis_address *seeds;
    size_t seed_count; /* REDIS_CLUSTER: some of its nodes; REDIS_SENTINEL: the Sentinels */
    char *master;      /* REDIS_SENTINEL: the name of the master */
    char *user;
    char *password;
    unsigned db;
};

/* Parses one of
 *     redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]
 *     unix://[[USER]:PASSWORD@]/PATH[?db=DB]
 *     redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]
 *     redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/MASTER[/DB]
 * False with *error (caller frees) saying what is wrong; *out is empty then. */
bool redis_url_parse(const char *text, struct redis_url *out, char **error);

/* Frees the strings. */
void redis_url_free(struct redis_url *url);

/* Makes *a the address host:port (copied); what it held is freed. */
void redis_address_set(struct redis_address *a, struct span host, struct span port);

/* True when *a is host:port. */
bool redis_address_is(const struct redis_address *a, struct span host, struct span port);

/* Frees the strings. */
void redis_address_free(struct redis_address *a);

#endif

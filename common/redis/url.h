/* Where Redis is, taken apart. Internal to common/redis. */
#ifndef JACKDAW_REDIS_URL_H
#define JACKDAW_REDIS_URL_H

#include "common/base/buf.h"

/* All strings owned; NULL = not given. Either path, or host and port. */
struct redis_url {
    char *path;
    char *host;
    char *port;
    char *user;
    char *password;
    unsigned db;
};

/* Parses "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]" or "unix://[[USER]:PASSWORD@]/PATH[?db=DB]". False with
 * *error (caller frees) saying what is wrong; *out is empty then. */
bool redis_url_parse(const char *text, struct redis_url *out, char **error);

/* Frees the strings. */
void redis_url_free(struct redis_url *url);

#endif

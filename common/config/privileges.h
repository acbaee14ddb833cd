/* What components may do in the users' name (XEP-0356), as s2s.privileges says it. */
#ifndef JACKDAW_CONFIG_PRIVILEGES_H
#define JACKDAW_CONFIG_PRIVILEGES_H

#include "common/base/span.h"

struct conf;

#define PRIVILEGE_IQS_MAX 16

enum { PRIVILEGE_GET = 1, PRIVILEGE_SET = 2 };
enum { PRIVILEGE_PRESENCE_NONE, PRIVILEGE_PRESENCE_MANAGED, PRIVILEGE_PRESENCE_ROSTER };

/* Spans borrow from the configuration. */
struct privileges {
    struct span domain; /* of the component */
    uint8_t roster;     /* PRIVILEGE_… bits */
    bool push;          /* roster pushes go there, too */
    bool message;       /* may send messages in users' names */
    uint8_t presence;
    struct {
        struct span ns;
        uint8_t types; /* PRIVILEGE_… bits */
    } iqs[PRIVILEGE_IQS_MAX];
    unsigned iq_count;
};

/* Reads one item, "DOMAIN=PERMISSION PERMISSION…". False with *why set (static). */
bool privileges_parse(struct span item, struct privileges *out, const char **why);

/* Those of a component's domain; false: it has none (or what is written is wrong). */
bool privileges_of(const struct conf *conf, struct span domain, struct privileges *out);

/* "none", "get", "set", "both". */
const char *privileges_access(uint8_t bits);

#endif

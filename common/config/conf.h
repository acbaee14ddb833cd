/* One configuration file for all roles (libconfig syntax: `section: { name = value; };`). Every option is
 * optional and typed; unknown keys and wrong values are refused with file, line and what is allowed. Owns
 * libconfig. */
#ifndef JACKDAW_CONFIG_CONF_H
#define JACKDAW_CONFIG_CONF_H

#include "common/base/buf.h"

struct conf_list {
    char **items; /* count strings, owned by the configuration */
    unsigned count;
};

/* Field types by option type; the field is named section_name. */
#define CONF_TYPE_BOOL   bool
#define CONF_TYPE_INT    int64_t
#define CONF_TYPE_TEXT   char *
#define CONF_TYPE_LIST   struct conf_list
#define CONF_TYPE_CHOICE int

struct conf {
#define OPTION(section, name, type, initial, low, high, doc) CONF_TYPE_##type section##_##name;
#include "common/config/options.def"
#undef OPTION
};

/* The values of delivery.durability, in the order of its choices. */
enum conf_durability { CONF_DURABILITY_REDIS, CONF_DURABILITY_MEMORY };

/* A configuration with every default. Never NULL; conf_free releases it (NULL is allowed). */
struct conf *conf_new(void);
void conf_free(struct conf *c);

/* Reads a file over what is set. False with one line per mistake appended to *errors ("FILE:LINE: what, what
 * is allowed"); the values that were right are set all the same. */
bool conf_load(struct conf *c, const char *file, struct buf *errors);

/* The same from text; name stands for FILE in the messages. */
bool conf_load_text(struct conf *c, const char *text, const char *name, struct buf *errors);

/* Sets one option from "section.name=value" (lists: a,b,c), or with the value as a
 * file has it ("a", ["a", "b"]). False with the reason appended to *errors. */
bool conf_set(struct conf *c, const char *assignment, struct buf *errors);

/* Takes secrets from the environment: JACKDAW_REDIS_PASSWORD into redis.url, JACKDAW_BUS_CURVE_SECRET_KEY. */
void conf_load_environment(struct conf *c);

/* Appends a complete file: every option with its text, type, range; the values in force (comments out those
 * that equal the default). conf_load of it gives the same configuration. */
void conf_write(const struct conf *c, struct buf *out);

#endif

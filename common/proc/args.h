/* The command line of every process: which file, which name, which settings; and the configuration from it.
 */
#ifndef JACKDAW_PROC_ARGS_H
#define JACKDAW_PROC_ARGS_H

#include "common/base/buf.h"

struct conf;

enum args_action { ARGS_ACTION_RUN, ARGS_ACTION_PRINT_CONFIG, ARGS_ACTION_HELP, ARGS_ACTION_VERSION };

/* Everything points into argv; sets is owned. Zero-initialise. */
struct args {
    enum args_action action;
    const char *config; /* NULL = defaults only */
    const char *name;   /* NULL = ROLE-1 */
    const char **sets;  /* set_count assignments in the order given */
    unsigned set_count;
};

/* Reads the command line. False with the reason appended to *errors. args_free in both cases. */
bool args_parse(struct args *a, int argc, char **argv, struct buf *errors);

/* Frees what args_parse allocated. */
void args_free(struct args *a);

/* True for a process name that fits membership, file names and log lines: 1 to 63 of a-z, 0-9, '-', '.', '_'.
 */
bool args_name_ok(const char *name);

/* Appends the usage text for a role. */
void args_usage(struct buf *out, const char *role);

/* The configuration: defaults, then the file, then the assignments, then secrets from the environment. NULL
 * with one line per mistake appended to *errors. The caller frees it with conf_free. */
struct conf *args_conf(const struct args *a, struct buf *errors);

#endif

/* Whether the values of a configuration mean something, beyond their types: what a process would find out
 * only when it uses them. jackdawctl config-check and every start of a process ask the same. */
#ifndef JACKDAW_PROC_CHECK_H
#define JACKDAW_PROC_CHECK_H

#include "common/base/buf.h"
#include "common/config/conf.h"

/* False with one line a mistake appended to *errors ("section.name: what is wrong and what would be right"):
 * domains, addresses to listen on, the URL of Redis, components with their secrets. Looks at no file and no
 * network. */
bool check_values(const struct conf *c, struct buf *errors);

/* The same for folders and files that the configuration names: that they exist and can be read. On this host
 * and by this user, so it is for config-check alone. */
bool check_files(const struct conf *c, struct buf *errors);

#endif

/* The connection manager as a role of the process skeleton. */
#ifndef JACKDAW_C2S_ROLE_H
#define JACKDAW_C2S_ROLE_H

#include "common/proc/proc.h"

extern const struct proc_role c2s_role;

#endif

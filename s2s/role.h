/* The federation process as common/proc runs it. */
#ifndef JACKDAW_S2S_ROLE_H
#define JACKDAW_S2S_ROLE_H

#include "common/proc/proc.h"

extern const struct proc_role s2s_role;

#endif

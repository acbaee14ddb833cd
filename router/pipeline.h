/* The run of a task through the phases; the verbs are in task.h. */
#ifndef JACKDAW_ROUTER_PIPELINE_H
#define JACKDAW_ROUTER_PIPELINE_H

#include "router/task.h"

/* Enters this room's counters. */
void pipeline_register_stats(void);

#endif

/* Every scenario, one file each. */
#ifndef JACKDAW_BENCH_SCENARIOS_ALL_H
#define JACKDAW_BENCH_SCENARIOS_ALL_H

#include "bench/load/scenario.h"

extern const struct scenario scenario_chat;
extern const struct scenario scenario_presence;
extern const struct scenario scenario_ping;
extern const struct scenario scenario_logins;
extern const struct scenario scenario_idle;

#endif

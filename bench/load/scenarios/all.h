/* Every scenario, one file each. */
#ifndef JACKDAW_BENCH_SCENARIOS_ALL_H
#define JACKDAW_BENCH_SCENARIOS_ALL_H

#include "bench/load/scenario.h"

extern const struct scenario scenario_chat;
extern const struct scenario scenario_presence;
extern const struct scenario scenario_ping;
extern const struct scenario scenario_logins;
extern const struct scenario scenario_idle;
extern const struct scenario scenario_roster;
extern const struct scenario scenario_roster_set;
extern const struct scenario scenario_fanout;
extern const struct scenario scenario_resources;
extern const struct scenario scenario_reconnect;
extern const struct scenario scenario_mixed;

#endif

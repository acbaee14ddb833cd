/* The list of scenarios. */
#include "bench/load/scenarios/all.h"

const struct scenario *const scenarios[] = {&scenario_chat,       &scenario_presence, &scenario_ping,
                                            &scenario_logins,     &scenario_idle,     &scenario_roster,
                                            &scenario_roster_set, &scenario_fanout,   &scenario_resources,
                                            &scenario_reconnect,  &scenario_mixed,    NULL};

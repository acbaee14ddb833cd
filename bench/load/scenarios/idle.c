/* Sessions that do nothing after their initial presence: what memory each costs the server. */
#include "bench/load/scenarios/all.h"

const struct scenario scenario_idle = {
    .name = "idle", .what = "memory of sessions that do nothing", .unit = "sessions", .idle = true};

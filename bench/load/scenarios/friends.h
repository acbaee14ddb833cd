/* Groups of contacts + 1 people who are all subscribed to each other. */
#ifndef JACKDAW_BENCH_SCENARIOS_FRIENDS_H
#define JACKDAW_BENCH_SCENARIOS_FRIENDS_H

#include "bench/load/scenarios/all.h"

/* The callbacks of a scenario of that name. friends_ready makes what subscriptions are missing. */
unsigned friends_multiple(const struct args *a);
void friends_online(struct client *c);
bool friends_ready(struct bench *b);

/* True when the stanza was about the making of groups and is dealt with. */
bool friends_stanza(struct client *c, const struct xml_element *e, struct span raw);

/* How often `what` stands in text. */
unsigned text_count(struct span text, const char *what);

#endif

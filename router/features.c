/* The one ordered list of features, and what is looked up in it for every stanza: hooks by phase, kind and
 * direction in arrays, iq routes in a small hash table, events by number. Built once at start. */
#include <stdio.h>

#include "common/base/hash.h"
#include "router/feature.h"

extern const struct feature feature_roster, feature_subscription, feature_presence, feature_ping,
    feature_disco, feature_version, feature_time, feature_last, feature_vcard, feature_session,
    feature_register, feature_hints, feature_offline, feature_component, feature_privilege, feature_blocking,
    feature_carbons;

/* Order matters inside a phase: subscription and presence share PHASE_ROUTE and PHASE_DELIVER, each for its
 * own types; of the listeners to EV_SESSION_AVAILABLE the first one here is told first. */
const struct feature *const features[] = {
    &feature_blocking,     &feature_carbons,   &feature_roster,
    &feature_subscription, &feature_presence,  &feature_disco,
    &feature_ping,         &feature_version,   &feature_time,
    &feature_last,         &feature_vcard,     &feature_register,
    &feature_session,      &feature_hints,     &feature_offline,
    &feature_component,    &feature_privilege, NULL,
};

#define FEATURES_MAX 64
#define HOOKS_MAX    16
#define ROUTES_CAP   256 /* power of two, at least twice the number of routes */
#define EVENTS_MAX   16
#define KINDS        3

struct hook_list {
    const struct feature_hook *hooks[HOOKS_MAX];
    unsigned count;
};

struct event_list {
    const struct feature_event *events[EVENTS_MAX];
    unsigned count;
};

static bool enabled[FEATURES_MAX];
static size_t slot_offset[FEATURES_MAX];
static size_t slot_bytes;
static struct hook_list hooks[PHASE_COUNT][2][KINDS]; /* phase, received or sent, enum stanza_kind */
static const struct iq_route *routes[ROUTES_CAP];
static struct event_list events[EV_COUNT];

static const char *const phase_names[PHASE_COUNT] = {"VALIDATE", "POLICY",  "STAMP",       "ARCHIVE", "COPY",
                                                     "ROUTE",    "DELIVER", "UNDELIVERED", "NOTIFY"};

static unsigned index_of(const struct feature *f)
{
    for (unsigned i = 0; features[i] != NULL; i++)
        if (features[i] == f)
            return i;
    CHECK(!"a feature that is not in the list");
    return 0;
}

static uint64_t route_hash(enum stanza_type type, enum iq_to to, struct span ns)
{
    return hash_bytes(ns) + (uint64_t)type * 31 + (uint64_t)to * 7;
}

static void add_route(const struct iq_route *route)
{
    uint64_t at = route_hash(route->type, route->to, span_of(route->ns));
    unsigned steps = 0;
    while (routes[at & (ROUTES_CAP - 1)] != NULL) {
        at++;
        CHECK(++steps < ROUTES_CAP / 2);
    }
    routes[at & (ROUTES_CAP - 1)] = route;
}

static void add_hook(const struct feature_hook *hook)
{
    for (unsigned sent = 0; sent < 2; sent++)
        for (unsigned kind = 0; kind < KINDS; kind++) {
            unsigned mask = (1u << kind) | (sent ? ON_SENT : ON_RECEIVED);
            struct hook_list *list = &hooks[hook->phase][sent][kind];
            if ((hook->mask & mask) != mask)
                continue;
            CHECK(list->count < HOOKS_MAX);
            list->hooks[list->count++] = hook;
        }
}

static void add_feature(const struct feature *f)
{
    for (unsigned i = 0; i < FEATURE_LIST_MAX && f->iqs[i].ns != NULL; i++)
        add_route(&f->iqs[i]);
    for (unsigned i = 0; i < FEATURE_LIST_MAX && f->hooks[i].fn != NULL; i++)
        add_hook(&f->hooks[i]);
    for (unsigned i = 0; i < FEATURE_LIST_MAX && f->events[i].fn != NULL; i++) {
        struct event_list *list = &events[f->events[i].event];
        CHECK(list->count < EVENTS_MAX);
        list->events[list->count++] = &f->events[i];
    }
}

void features_init(const struct conf *conf)
{
    memset(hooks, 0, sizeof hooks);
    memset(routes, 0, sizeof routes);
    memset(events, 0, sizeof events);
    slot_bytes = 0;
    for (unsigned i = 0; features[i] != NULL; i++) {
        CHECK(i < FEATURES_MAX);
        enabled[i] = features[i]->enabled == NULL || features[i]->enabled(conf);
        slot_offset[i] = slot_bytes;
        if (!enabled[i])
            continue;
        slot_bytes += (features[i]->session_size + 15) & ~(size_t)15;
        add_feature(features[i]);
    }
}

bool feature_enabled(const struct feature *f)
{
    return enabled[index_of(f)];
}

const struct iq_route *feature_iq(enum stanza_type type, enum iq_to to, struct span ns, struct span name)
{
    const struct iq_route *any = NULL;
    for (uint64_t at = route_hash(type, to, ns);; at++) {
        const struct iq_route *route = routes[at & (ROUTES_CAP - 1)];
        if (route == NULL)
            return any;
        if (route->type != type || route->to != to || !span_is(ns, route->ns))
            continue;
        if (route->name == NULL)
            any = route;
        else if (span_is(name, route->name))
            return route;
    }
}

const struct feature_hook *feature_hook(enum phase phase, unsigned mask, unsigned n)
{
    unsigned sent = (mask & ON_SENT) != 0;
    unsigned kind = mask & ON_MESSAGE ? STANZA_MESSAGE : mask & ON_PRESENCE ? STANZA_PRESENCE : STANZA_IQ;
    const struct hook_list *list = &hooks[phase][sent][kind];
    return n < list->count ? list->hooks[n] : NULL;
}

void feature_event(enum event event, struct user *u, struct session *s)
{
    for (unsigned i = 0; i < events[event].count; i++)
        events[event].events[i]->fn(u, s);
}

size_t feature_session_bytes(void)
{
    return slot_bytes;
}

size_t feature_session_offset(const struct feature *f)
{
    return slot_offset[index_of(f)];
}

static void print_mask(unsigned mask)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{ON_MESSAGE, "message"},
                 {ON_PRESENCE, "presence"},
                 {ON_IQ, "iq"},
                 {ON_SENT, "sent"},
                 {ON_RECEIVED, "received"}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (mask & names[i].bit)
            printf(" %s", names[i].name);
}

void feature_print_pipeline(void)
{
    static const char *const to_names[] = {"account", "other account", "host"};
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++) {
        printf("%s\n", phase_names[phase]);
        for (unsigned i = 0; features[i] != NULL; i++)
            for (unsigned k = 0; enabled[i] && k < FEATURE_LIST_MAX && features[i]->hooks[k].fn != NULL; k++)
                if (features[i]->hooks[k].phase == phase) {
                    printf("  %-14s", features[i]->name);
                    print_mask(features[i]->hooks[k].mask);
                    printf("\n");
                }
    }
    printf("IQ\n");
    for (unsigned i = 0; features[i] != NULL; i++)
        for (unsigned k = 0; enabled[i] && k < FEATURE_LIST_MAX && features[i]->iqs[k].ns != NULL; k++) {
            const struct iq_route *r = &features[i]->iqs[k];
            printf("  %-14s %s to %s: %s {%s}\n", features[i]->name, stanza_type_name(r->type),
                   to_names[r->to], r->name != NULL ? r->name : "*", r->ns);
        }
}

void feature_print_specs(void)
{
    for (unsigned i = 0; features[i] != NULL; i++) {
        const struct feature *f = features[i];
        for (unsigned k = 0; k < FEATURE_LIST_MAX && f->rfcs[k] != NULL; k++)
            printf("RFC-%s %s\n", f->rfcs[k], f->name);
        for (unsigned k = 0; k < FEATURE_LIST_MAX && f->xeps[k] != NULL; k++)
            printf("XEP-%s %s\n", f->xeps[k], f->name);
    }
}

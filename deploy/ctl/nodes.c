#include "deploy/ctl/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/member/core.h"
#include "common/redis/keys.h"
#include "deploy/ctl/ctl.h"

static void text_copy(char *to, size_t size, struct span from)
{
    snprintf(to, size, "%.*s", SPAN_FMT(from));
}

/* One node: name, incarnation, role, endpoint, stats, draining, ms left. */
static bool node_parse(const struct redis_reply *item, struct ctl_node *out)
{
    if (item->kind != REDIS_KIND_LIST || item->count < 7)
        return false;
    const struct redis_reply *f = item->items;
    *out = (struct ctl_node){0};
    text_copy(out->node.name, sizeof(out->node.name), f[0].text);
    text_copy(out->node.role, sizeof(out->node.role), f[2].text);
    text_copy(out->node.endpoint, sizeof(out->node.endpoint), f[3].text);
    text_copy(out->node.stats, sizeof(out->node.stats), f[4].text);
    out->node.draining = span_is(f[5].text, "1");
    return span_to_u64(f[1].text, UINT64_MAX, &out->node.incarnation) &&
           span_to_i64(f[6].text, INT64_MIN, INT64_MAX, &out->lease_left_ms);
}

/* The slots are computed as every process computes them. */
static void slots_count(struct ctl_nodes *n)
{
    struct member_node *plain = xcalloc(n->count + 1, sizeof(*plain));
    for (unsigned i = 0; i < n->count; i++)
        plain[i] = n->nodes[i].node;
    member_core_slots(plain, n->count, n->owner);
    for (unsigned i = 0; i < MEMBER_SLOTS; i++) {
        if (n->owner[i] < n->count)
            n->nodes[n->owner[i]].slots++;
    }
    free(plain);
}

static void on_list(void *ctx, const struct redis_reply *reply)
{
    struct ctl_nodes *n = ctx;
    n->malformed =
        reply->kind != REDIS_KIND_LIST || reply->count != 4 || reply->items[2].kind != REDIS_KIND_LIST;
    if (n->malformed)
        return;
    const struct redis_reply *list = &reply->items[2];
    n->epoch = (uint32_t)reply->items[0].number;
    n->nodes = xcalloc(list->count + 1, sizeof(*n->nodes));
    for (size_t i = 0; i < list->count; i++) {
        if (node_parse(&list->items[i], &n->nodes[n->count]))
            n->count++;
        else
            n->malformed = true;
    }
    slots_count(n);
}

bool ctl_nodes_get(struct ctl *c, struct ctl_nodes *out)
{
    struct span argv[] = {SPAN("FCALL_RO"), SPAN("jd_member_list"), KEYS_CLUSTER, SPAN("0")};
    *out = (struct ctl_nodes){0};
    if (!ctl_ask(c, KEY_CLUSTER, ARRAY_LEN(argv), argv, on_list, out))
        return false;
    if (!out->malformed)
        return true;
    ctl_fail(c, CTL_REFUSED, "Redis holds a list of members that this version does not understand");
    return false;
}

void ctl_nodes_free(struct ctl_nodes *n)
{
    free(n->nodes);
    *n = (struct ctl_nodes){0};
}

const struct ctl_node *ctl_nodes_owner(const struct ctl_nodes *n, uint16_t slot)
{
    return slot < MEMBER_SLOTS && n->owner[slot] < n->count ? &n->nodes[n->owner[slot]] : NULL;
}

const struct ctl_node *ctl_nodes_find(const struct ctl_nodes *n, struct span name)
{
    for (unsigned i = 0; i < n->count; i++) {
        if (span_is(name, n->nodes[i].node.name))
            return &n->nodes[i];
    }
    return NULL;
}

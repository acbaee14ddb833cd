#include "s2s/srv.h"

#include <stdlib.h>

static uint16_t read_u16(const char *p)
{
    return (uint16_t)((uint8_t)p[0] << 8 | (uint8_t)p[1]);
}

/* A name of labels; only what a host name may hold is let through. */
static bool parse_name(struct span in, char out[256])
{
    size_t at = 0, n = 0;
    while (at < in.n && in.p[at] != 0) {
        size_t label = (uint8_t)in.p[at++];
        if (label > 63 || at + label > in.n || n + label + 1 >= 255)
            return false;
        if (n > 0)
            out[n++] = '.';
        for (size_t i = 0; i < label; i++) {
            char c = in.p[at + i];
            if (c <= ' ' || c == '.' || c == 0x7f || (uint8_t)c >= 0x80)
                return false;
            out[n++] = c;
        }
        at += label;
    }
    out[n] = '\0';
    return at + 1 == in.n;
}

bool srv_parse(struct span rdata, bool tls, struct srv *out)
{
    if (rdata.n < 7)
        return false;
    *out = (struct srv){.priority = read_u16(rdata.p),
                        .weight = read_u16(rdata.p + 2),
                        .port = read_u16(rdata.p + 4),
                        .tls = tls};
    return parse_name(span_sub(rdata, 6, SIZE_MAX), out->host);
}

bool srv_parse_tlsa(struct span rdata, struct tlsa *out)
{
    if (rdata.n < 3)
        return false;
    *out = (struct tlsa){.usage = (uint8_t)rdata.p[0],
                         .selector = (uint8_t)rdata.p[1],
                         .matching = (uint8_t)rdata.p[2],
                         .n = (uint8_t)(rdata.n - 3)};
    if (out->matching < 1 || out->matching > 2 || rdata.n - 3 != (out->matching == 1 ? 32 : 64))
        return false;
    memcpy(out->data, rdata.p + 3, out->n);
    return true;
}

static int by_priority(const void *a, const void *b)
{
    const struct srv *x = a, *y = b;
    if (x->priority != y->priority)
        return x->priority < y->priority ? -1 : 1;
    /* weight 0 first, as the RFC wants it for the draw */
    return (x->weight != 0) - (y->weight != 0);
}

void srv_order(struct srv *records, size_t count, struct rng *rng)
{
    qsort(records, count, sizeof *records, by_priority);
    for (size_t i = 0; i < count; i++) {
        uint64_t sum = 0, drawn, run = 0;
        size_t end = i;
        while (end < count && records[end].priority == records[i].priority)
            sum += records[end++].weight;
        drawn = rng_below(rng, sum + 1);
        for (size_t k = i; k < end; k++) {
            run += records[k].weight;
            if (run >= drawn) {
                struct srv chosen = records[k];
                memmove(records + i + 1, records + i, (k - i) * sizeof *records);
                records[i] = chosen;
                break;
            }
        }
    }
}

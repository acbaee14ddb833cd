/* A scenario and the run that it is part of. */
#ifndef JACKDAW_BENCH_SCENARIO_H
#define JACKDAW_BENCH_SCENARIO_H

#include "bench/load/args.h"
#include "bench/load/client.h"
#include "bench/load/hist.h"

struct tls_ctx;
struct json;

/* The run goes: log all clients in (`online` of each) → `start` → warm-up → measure → `stop` → settle (what
 * is under way arrives) → `finish`. */
struct scenario {
    const char *name;
    const char *what;
    const char *unit;                           /* what bench.done counts: "messages" */
    bool own_logins;                            /* logs its clients in itself, after `start` */
    bool idle;                                  /* nothing happens while measuring: memory only */
    unsigned (*multiple)(const struct args *a); /* clients come in groups of so many; NULL = 1 */
    /* Account and resource of a client; NULL: the account of its number, resource "bench". */
    void (*identity)(const struct args *a, unsigned number, unsigned *account, unsigned *resource);
    void (*online)(struct client *c); /* NULL: sends initial presence */
    bool (*ready)(struct bench *b);   /* NULL: as soon as all are online */
    void (*start)(struct bench *b);
    void (*stanza)(struct client *c, const struct xml_element *e, struct span raw);
    void (*gone)(struct client *c);
    void (*stop)(struct bench *b);
    bool (*quiet)(struct bench *b); /* after `stop`: nothing is missing; NULL: as far as is known */
    /* Judges what has arrived: fills bench.lost and the like. */
    void (*finish)(struct bench *b);
};

/* What happened in each stretch of the measurement; unit by unit, for plots. */
struct stretch {
    double end_s; /* since measuring began */
    uint64_t done, p50_us, p90_us, p99_us, max_us;
    double cpu_s; /* of the server's processes */
};

struct series {
    struct stretch *items;
    unsigned count, cap;
    uint64_t done, cpu_ns; /* at the end of the last one */
    struct hist latency;   /* since then */
};

extern const struct scenario *const scenarios[];

enum phase { PHASE_LOGIN, PHASE_READY, PHASE_WARMUP, PHASE_MEASURE, PHASE_SETTLE, PHASE_OVER };

struct bench {
    struct args args;
    const struct scenario *scenario;
    struct ring *ring;
    struct conn_hub hub;
    struct tls_ctx *tls;
    struct stream_kind stream_kind;
    struct sockaddr_storage address, peer; /* peer: of odd clients, when args.peer is set */
    struct client *clients;
    enum phase phase;
    struct timer timer; /* the end of the phase */
    struct timer second;
    unsigned dialled, online, under_way;
    unsigned failed;                   /* logins refused, connections lost */
    uint64_t done;                     /* units in all */
    uint64_t done_mark;                /* when measuring began */
    uint64_t done_last;                /* at the last progress line */
    uint64_t done_settled, settled_ns; /* when settling last moved */
    uint64_t measured;                 /* units while measuring */
    uint64_t lost, duplicated, reordered;
    struct hist latency; /* while measuring */
    struct series seconds, minutes;
    uint64_t cpu_last_ns;
    char *note; /* the scenario's own words in the report */
    struct cpu_sample before, idle, from, to;
    double factor; /* calibration while measuring */
    char *trouble; /* the first failure, for the report */
};

/* Counts one unit, with its latency when start_ns is not 0. */
void bench_done(struct bench *b, uint64_t start_ns);

/* Notes the first failure's reason. */
void bench_trouble(struct bench *b, unsigned number, const char *why);

/* Prints the result; the exit status: 0, or 1 when anything was lost, refused, duplicated or reordered. */
int report_print(const struct bench *b);

#endif

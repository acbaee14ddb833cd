/* The command line of jackdaw-bench. */
#ifndef JACKDAW_BENCH_ARGS_H
#define JACKDAW_BENCH_ARGS_H

#include "bench/load/cpu.h"
#include "common/sasl/sasl.h"

enum tls_mode { TLS_MODE_NONE, TLS_MODE_STARTTLS, TLS_MODE_DIRECT };

struct args {
    const char *scenario;
    const char *address;     /* HOST:PORT */
    const char *domain;      /* of the accounts, and the stream's `to` */
    const char *peer;        /* HOST:PORT of a second server, for clients with odd numbers; NULL = none */
    const char *peer_domain; /* and its domain */
    const char *prefix;      /* accounts are PREFIX0, PREFIX1, … */
    const char *password;    /* of all of them */
    enum sasl_mech mech;
    enum tls_mode tls;
    bool sm;           /* enable stream management */
    bool resume;       /* resume a session after a lost connection */
    bool json;         /* print the result as JSON */
    unsigned clients;  /* connections; chat: two a pair */
    unsigned active;   /* chat: so many of them talk; 0 = all */
    unsigned first;    /* number of the first account */
    unsigned window;   /* messages outstanding per pair; requests per client */
    unsigned contacts; /* presence: contacts of each */
    unsigned parallel; /* logins under way at once */
    unsigned body_bytes;
    double rate; /* messages a second in all; 0 = closed loop */
    double warmup_s, duration_s, settle_s;
    struct cpu_set servers;
};

/* Reads argv. False after a message on standard error; *help: it was asked for, and is printed. */
bool args_parse(int argc, char **argv, struct args *out, bool *help);

#endif

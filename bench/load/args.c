/* Options by getopt_long; a table would be longer than the switch. */
#include "bench/load/args.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/load/scenario.h"

enum {
    OPT_DOMAIN = 256,
    OPT_PEER,
    OPT_PEER_DOMAIN,
    OPT_RESUME,
    OPT_PREFIX,
    OPT_PASSWORD,
    OPT_MECH,
    OPT_TLS,
    OPT_SM,
    OPT_JSON,
    OPT_CLIENTS,
    OPT_ACTIVE,
    OPT_PAIRS,
    OPT_FIRST,
    OPT_WINDOW,
    OPT_CONTACTS,
    OPT_PARALLEL,
    OPT_BYTES,
    OPT_RATE,
    OPT_WARMUP,
    OPT_DURATION,
    OPT_SETTLE,
    OPT_DIR,
    OPT_PIDS,
    OPT_HELP
};

static const struct option options[] = {{"domain", required_argument, NULL, OPT_DOMAIN},
                                        {"peer", required_argument, NULL, OPT_PEER},
                                        {"peer-domain", required_argument, NULL, OPT_PEER_DOMAIN},
                                        {"resume", no_argument, NULL, OPT_RESUME},
                                        {"prefix", required_argument, NULL, OPT_PREFIX},
                                        {"password", required_argument, NULL, OPT_PASSWORD},
                                        {"mech", required_argument, NULL, OPT_MECH},
                                        {"tls", required_argument, NULL, OPT_TLS},
                                        {"sm", no_argument, NULL, OPT_SM},
                                        {"json", no_argument, NULL, OPT_JSON},
                                        {"clients", required_argument, NULL, OPT_CLIENTS},
                                        {"active", required_argument, NULL, OPT_ACTIVE},
                                        {"pairs", required_argument, NULL, OPT_PAIRS},
                                        {"first", required_argument, NULL, OPT_FIRST},
                                        {"window", required_argument, NULL, OPT_WINDOW},
                                        {"contacts", required_argument, NULL, OPT_CONTACTS},
                                        {"parallel", required_argument, NULL, OPT_PARALLEL},
                                        {"bytes", required_argument, NULL, OPT_BYTES},
                                        {"rate", required_argument, NULL, OPT_RATE},
                                        {"warmup", required_argument, NULL, OPT_WARMUP},
                                        {"duration", required_argument, NULL, OPT_DURATION},
                                        {"settle", required_argument, NULL, OPT_SETTLE},
                                        {"dir", required_argument, NULL, OPT_DIR},
                                        {"pids", required_argument, NULL, OPT_PIDS},
                                        {"help", no_argument, NULL, OPT_HELP},
                                        {0}};

static void print_help(void)
{
    printf("usage: jackdaw-bench SCENARIO HOST:PORT [options]\n\nscenarios:\n");
    for (unsigned i = 0; scenarios[i] != NULL; i++)
        printf("  %-10s %s\n", scenarios[i]->name, scenarios[i]->what);
    printf("\noptions:\n"
           "  --domain D          domain of the accounts (localhost)\n"
           "  --peer HOST:PORT --peer-domain D   a second server, where clients with odd numbers live\n"
           "  --prefix P          accounts are P0, P1, … (bench)\n"
           "  --first N           number of the first account (0)\n"
           "  --password S        of all accounts (bench)\n"
           "  --mech M            PLAIN, SCRAM-SHA-1, SCRAM-SHA-256, SCRAM-SHA-512 (PLAIN)\n"
           "  --tls MODE          none, starttls, direct (starttls)\n"
           "  --sm                enable stream management; --resume: and resume sessions (reconnect)\n"
           "  --clients N         connections (400); --pairs N: the same as --clients 2N\n"
           "  --active N          chat: only so many of the clients talk (all)\n"
           "  --parallel N        logins under way at once (64)\n"
           "  --window N          messages outstanding per pair, requests per client (1)\n"
           "  --contacts N        contacts (presence, mixed), roster items, receivers or resources of each "
           "(50)\n"
           "  --bytes N           size of a message's body (100)\n"
           "  --rate R            offered messages a second in all, open loop (0: closed loop)\n"
           "  --warmup S --duration S --settle S   seconds before, of, and between phases (2, 10, 2)\n"
           "  --dir DIR           the server's processes are those of DIR/run/*.pid\n"
           "  --pids LIST         or these: NAME=PID,NAME=PID\n"
           "  --json              print the result as JSON\n");
}

static bool parse_tls(const char *text, enum tls_mode *out)
{
    static const char *const names[] = {"none", "starttls", "direct"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum tls_mode)i;
            return true;
        }
    return false;
}

static bool parse_count(const char *text, unsigned *out)
{
    uint64_t value;
    if (!span_to_u64(span_of(text), 1000000, &value))
        return false;
    *out = (unsigned)value;
    return true;
}

static bool parse_number(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= 0;
}

static bool take(struct args *a, int option, const char *value)
{
    switch (option) {
    case OPT_DOMAIN:
        a->domain = value;
        return true;
    case OPT_PREFIX:
        a->prefix = value;
        return true;
    case OPT_PASSWORD:
        a->password = value;
        return true;
    case OPT_MECH:
        return sasl_mech_parse(span_of(value), &a->mech);
    case OPT_TLS:
        return parse_tls(value, &a->tls);
    case OPT_SM:
        return a->sm = true;
    case OPT_RESUME:
        return a->sm = a->resume = true;
    case OPT_PEER:
        a->peer = value;
        return true;
    case OPT_PEER_DOMAIN:
        a->peer_domain = value;
        return true;
    case OPT_JSON:
        return a->json = true;
    case OPT_CLIENTS:
        return parse_count(value, &a->clients);
    case OPT_ACTIVE:
        return parse_count(value, &a->active);
    case OPT_PAIRS:
        if (!parse_count(value, &a->clients))
            return false;
        a->clients *= 2;
        return true;
    case OPT_FIRST:
        return parse_count(value, &a->first);
    case OPT_WINDOW:
        return parse_count(value, &a->window);
    case OPT_CONTACTS:
        return parse_count(value, &a->contacts);
    case OPT_PARALLEL:
        return parse_count(value, &a->parallel) && a->parallel > 0;
    case OPT_BYTES:
        return parse_count(value, &a->body_bytes);
    case OPT_RATE:
        return parse_number(value, &a->rate);
    case OPT_WARMUP:
        return parse_number(value, &a->warmup_s);
    case OPT_DURATION:
        return parse_number(value, &a->duration_s);
    case OPT_SETTLE:
        return parse_number(value, &a->settle_s);
    case OPT_DIR:
        return cpu_add_dir(&a->servers, value);
    default:
        return cpu_add_list(&a->servers, value);
    }
}

bool args_parse(int argc, char **argv, struct args *out, bool *help)
{
    int at = 0;
    *out = (struct args){.domain = "localhost",
                         .prefix = "bench",
                         .password = "bench",
                         .mech = SASL_PLAIN,
                         .tls = TLS_MODE_STARTTLS,
                         .clients = 400,
                         .window = 1,
                         .contacts = 50,
                         .parallel = 64,
                         .body_bytes = 100,
                         .warmup_s = 2,
                         .duration_s = 10,
                         .settle_s = 2};
    *help = false;
    for (int o; (o = getopt_long(argc, argv, "", options, &at)) != -1;) {
        if (o == OPT_HELP) {
            print_help();
            return !(*help = true);
        }
        if (o == '?')
            return false;
        if (!take(out, o, optarg)) {
            fprintf(stderr, "jackdaw-bench: --%s does not take %s\n", options[at].name,
                    optarg != NULL ? optarg : "that");
            return false;
        }
    }
    if (argc - optind != 2) {
        fprintf(stderr, "jackdaw-bench: give a scenario and HOST:PORT; --help lists them\n");
        return false;
    }
    if ((out->peer == NULL) != (out->peer_domain == NULL)) {
        fprintf(stderr, "jackdaw-bench: --peer and --peer-domain go together\n");
        return false;
    }
    out->scenario = argv[optind];
    out->address = argv[optind + 1];
    return true;
}

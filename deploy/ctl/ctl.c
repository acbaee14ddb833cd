/* Arguments, the table of verbs, and what the verbs share: one loop, one Redis, waiting for one answer at a
 * time. */
#include "deploy/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/config/conf.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/ring/ring.h"

#define DEFAULT_CONFIG "/etc/jackdaw/jackdaw.conf"

enum { TIMEOUT_DEFAULT_MS = 5000 };

static const struct verb {
    const char *name;
    int (*run)(struct ctl *c);
    const char *arguments;
    const char *help;
    bool needs_config;
} verbs[] = {
    {"adduser", ctl_adduser, "USER@DOMAIN [--password-stdin | --password-file F | --password P] [--replace]",
     "make an account; asks for the password when none is given (--password shows it in ps)", true},
    {"adduser", ctl_adduser, "--file ACCOUNTS [--replace]",
     "make many: one JID and password a line, '#' comments; existing ones are kept", true},
    {"deluser", ctl_deluser, "USER@DOMAIN", "delete an account with its roster and messages", true},
    {"passwd", ctl_passwd, "USER@DOMAIN [--password-stdin | --password-file F | --password P]",
     "set a new password", true},
    {"disable", ctl_disable, "USER@DOMAIN", "refuse log-ins, keep everything", true},
    {"enable", ctl_enable, "USER@DOMAIN", "allow log-ins again", true},
    {"users", ctl_users, "[--domain D]", "list the accounts", true},
    {"sessions", ctl_sessions, "[USER@DOMAIN]", "list the sessions of one user or of all", true},
    {"kick", ctl_kick, "USER@DOMAIN[/RESOURCE]", "end sessions", true},
    {"cluster", ctl_cluster, "", "epoch, processes, slots, Redis", true},
    {"where", ctl_where, "JID...", "which router is the home of each", true},
    {"stats", ctl_stats, "NAME [--prometheus]", "the figures of one process, from its endpoint", true},
    {"config-check", ctl_config_check, "[FILE]", "say what is wrong in a configuration", false},
    {"sample-config", ctl_sample_config, "", "print a configuration with every option and its default",
     false},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: jackdawctl [--dir DIR | --config FILE] [--set section.name=value]... [--json]\n"
                "                  [--timeout SECONDS] VERB ...\n\n"
                "  --dir DIR        a directory of deploy/run: DIR/jackdaw.conf\n"
                "  --config FILE    the configuration (default: " DEFAULT_CONFIG " when it is there)\n\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(to, "  %s %s\n      %s\n", verbs[i].name, verbs[i].arguments, verbs[i].help);
    fprintf(to, "\nExit code: 0 done, 1 refused, 2 wrong arguments or configuration, 3 no answer.\n");
}

/* ---- arguments */

static void argument_remove(struct ctl *c, int at, int count)
{
    memmove(c->argv + at, c->argv + at + count, (size_t)(c->argc - at - count) * sizeof(*c->argv));
    c->argc -= count;
}

bool ctl_flag(struct ctl *c, const char *name)
{
    for (int i = 0; i < c->argc; i++) {
        if (strcmp(c->argv[i], name) == 0) {
            argument_remove(c, i, 1);
            return true;
        }
    }
    return false;
}

bool ctl_value(struct ctl *c, const char *name, const char **value)
{
    size_t n = strlen(name);
    for (int i = 0; i < c->argc; i++) {
        if (strncmp(c->argv[i], name, n) != 0)
            continue;
        if (c->argv[i][n] == '=') {
            *value = c->argv[i] + n + 1;
            argument_remove(c, i, 1);
            return true;
        }
        if (c->argv[i][n] == '\0') {
            *value = i + 1 < c->argc ? c->argv[i + 1] : NULL;
            argument_remove(c, i, MIN(2, c->argc - i));
            return true;
        }
    }
    return false;
}

bool ctl_arguments(struct ctl *c, int least, int most)
{
    for (int i = 0; i < c->argc; i++) {
        if (c->argv[i][0] == '-' && c->argv[i][1] != '\0') {
            ctl_fail(c, CTL_USAGE, "%s: unknown option %s; --help shows what there is", c->verb, c->argv[i]);
            return false;
        }
    }
    if (c->argc >= least && c->argc <= most)
        return true;
    ctl_fail(c, CTL_USAGE, "%s: %s; --help shows what it takes", c->verb,
             c->argc < least ? "an argument is missing" : "too many arguments");
    return false;
}

/* ---- output */

int ctl_fail(struct ctl *c, enum ctl_exit code, const char *format, ...)
{
    struct buf text = {0};
    va_list args;
    va_start(args, format);
    buf_vaddf(&text, format, args);
    va_end(args);
    if (c->json) {
        struct buf out = {0};
        struct json j = {.out = &out};
        json_open(&j, NULL, '{');
        json_bool(&j, "ok", false);
        json_text(&j, "error", buf_span(&text));
        json_close(&j, '}');
        buf_add_char(&out, '\n');
        ctl_print(&out);
    } else {
        fprintf(stderr, "jackdawctl: %.*s\n", SPAN_FMT(buf_span(&text)));
    }
    buf_free(&text);
    return code;
}

int ctl_done(struct ctl *c, const char *format, ...)
{
    struct buf out = {0};
    if (c->json) {
        buf_add_lit(&out, "{\"ok\":true}");
    } else {
        va_list args;
        va_start(args, format);
        buf_vaddf(&out, format, args);
        va_end(args);
    }
    buf_add_char(&out, '\n');
    ctl_print(&out);
    return CTL_OK;
}

void ctl_print(struct buf *out)
{
    fwrite(out->p, 1, out->n, stdout);
    fflush(stdout);
    buf_free(out);
}

/* ---- Redis */

static void on_state(void *ctx, bool up)
{
    (void)ctx;
    (void)up;
}

bool ctl_wait(struct ctl *c, const bool *flag)
{
    uint64_t end = clock_mono_ms() + c->timeout_ms;
    while (!*flag && clock_mono_ms() < end)
        ring_turn(c->ring, 50);
    return *flag;
}

bool ctl_connect(struct ctl *c)
{
    const char *why = NULL;
    char *error = NULL;
    c->ring = ring_new(256, &why);
    if (c->ring == NULL) {
        ctl_fail(c, CTL_AWAY, "%s", why);
        return false;
    }
    struct redis_config config = {c->conf->redis_url, (unsigned)c->conf->redis_timeout_ms,
                                  (unsigned)c->conf->redis_wait_replicas};
    c->redis = redis_new(c->ring, &config, on_state, c, &error);
    if (c->redis == NULL) {
        ctl_fail(c, CTL_USAGE, "%s", error);
        free(error);
        return false;
    }
    uint64_t end = clock_mono_ms() + c->timeout_ms;
    while (!redis_is_up(c->redis) && clock_mono_ms() < end)
        ring_turn(c->ring, 50);
    if (redis_is_up(c->redis))
        return true;
    ctl_fail(c, CTL_AWAY, "Redis is away: %s", redis_reason(c->redis));
    return false;
}

struct asking {
    redis_fn *take;
    void *ctx;
    bool came, answered;
    struct buf error;
};

static void on_answer(void *ctx, const struct redis_reply *reply)
{
    struct asking *a = ctx;
    a->came = true;
    if (reply == NULL)
        return;
    a->answered = reply->kind != REDIS_KIND_ERROR;
    if (a->answered)
        a->take(a->ctx, reply);
    else
        buf_add_span(&a->error, reply->text);
}

static bool answer_wait(struct ctl *c, struct asking *a)
{
    ctl_wait(c, &a->came);
    redis_forget(c->redis, a);
    if (!a->answered)
        ctl_fail(c, CTL_AWAY, a->error.n > 0 ? "Redis says: %s" : "Redis gives no answer%s",
                 buf_cstr(&a->error));
    buf_free(&a->error);
    return a->answered;
}

bool ctl_ask(struct ctl *c, struct span key, unsigned argc, const struct span *argv, redis_fn *take,
             void *ctx)
{
    struct asking a = {.take = take, .ctx = ctx};
    redis_command(c->redis, key, argc, argv, on_answer, &a);
    return answer_wait(c, &a);
}

bool ctl_ask_node(struct ctl *c, unsigned node, unsigned argc, const struct span *argv, redis_fn *take,
                  void *ctx)
{
    struct asking a = {.take = take, .ctx = ctx};
    redis_node_command(c->redis, node, argc, argv, on_answer, &a);
    return answer_wait(c, &a);
}

/* ---- JIDs and passwords */

static bool domain_is_served(const struct ctl *c, struct span domain)
{
    for (unsigned i = 0; i < c->conf->cluster_domains.count; i++) {
        struct buf prepared = {0};
        bool same = jid_prepare_domain(span_of(c->conf->cluster_domains.items[i]), &prepared, NULL) &&
                    span_eq(buf_span(&prepared), domain);
        buf_free(&prepared);
        if (same)
            return true;
    }
    return false;
}

bool ctl_user_jid(const struct ctl *c, const char *text, bool any_domain, struct buf *store, char **why)
{
    struct jid jid;
    const char *rule = NULL;
    size_t was = store->n;
    if (!jid_prepare(span_of(text), store, &jid, &rule))
        *why = xasprintf("%s is not a JID: %s", text, rule);
    else if (jid.local_n == 0 || jid.resource_n > 0)
        *why = xasprintf("%s is not of the form USER@DOMAIN", text);
    else if (!any_domain && !domain_is_served(c, jid_domain(&jid)))
        *why =
            xasprintf("%.*s is not a domain of this cluster (cluster.domains)", SPAN_FMT(jid_domain(&jid)));
    else
        return true;
    store->n = was;
    return false;
}

/* Reads one line without its end; false at the end of the input. */
static bool line_read(FILE *from, struct buf *out)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, from);
    if (n > 0 && line[n - 1] == '\n')
        n--;
    if (n > 0 && line[n - 1] == '\r')
        n--;
    if (n > 0)
        buf_add(out, line, (size_t)n);
    if (line != NULL)
        explicit_bzero(line, cap);
    free(line);
    return n >= 0;
}

static bool password_ask(const char *prompt, struct buf *out)
{
    struct termios shown, hidden;
    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return false;
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(stderr, "%s: ", prompt);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    bool good = line_read(stdin, out);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    return good;
}

void ctl_password_options(struct ctl *c, struct ctl_password *p)
{
    p->from_stdin = ctl_flag(c, "--password-stdin");
    p->from_file = ctl_value(c, "--password-file", &p->file);
    p->is_given = ctl_value(c, "--password", &p->given);
}

bool ctl_password_get(struct ctl *c, const struct ctl_password *p, struct buf *password)
{
    if (p->is_given) {
        if (p->given != NULL)
            buf_add_str(password, p->given);
    } else if (p->from_stdin) {
        line_read(stdin, password);
    } else if (p->from_file) {
        FILE *from = p->file != NULL ? fopen(p->file, "re") : NULL;
        if (from == NULL) {
            ctl_fail(c, CTL_USAGE, "%s: --password-file %s: %s", c->verb, p->file != NULL ? p->file : "",
                     p->file != NULL ? strerror(errno) : "no file is named");
            return false;
        }
        line_read(from, password);
        fclose(from);
    } else if (isatty(STDIN_FILENO)) {
        struct buf again = {0};
        bool same = password_ask("Password", password) && password_ask("Again", &again) &&
                    span_eq(buf_span(password), buf_span(&again));
        buf_free(&again);
        if (!same) {
            ctl_fail(c, CTL_REFUSED, "the two are not the same");
            return false;
        }
    } else {
        ctl_fail(c, CTL_USAGE, "%s: no password: use --password-stdin, --password-file or a terminal",
                 c->verb);
        return false;
    }
    if (password->n > 0)
        return true;
    ctl_fail(c, CTL_REFUSED, "the password is empty");
    return false;
}

/* ---- start */

/* The configuration in force; false (said) when there is none. */
static bool config_load(struct ctl *c, const char *const *sets, unsigned set_count)
{
    struct buf errors = {0};
    bool good = true;
    c->conf = conf_new();
    if (c->config_file == NULL && access(DEFAULT_CONFIG, R_OK) == 0)
        c->config_file = DEFAULT_CONFIG;
    if (c->config_file != NULL)
        good = conf_load(c->conf, c->config_file, &errors);
    for (unsigned i = 0; i < set_count; i++)
        good &= conf_set(c->conf, sets[i], &errors);
    conf_load_environment(c->conf);
    if (!good) {
        while (errors.n > 0 && errors.p[errors.n - 1] == '\n')
            errors.n--;
        ctl_fail(c, CTL_USAGE, "%s", buf_cstr(&errors));
    }
    buf_free(&errors);
    return good;
}

static const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}

static int verb_run(struct ctl *c)
{
    const char *dir = NULL, *value = NULL, *sets[64];
    unsigned set_count = 0;
    char *in_dir = NULL;
    c->json = ctl_flag(c, "--json");
    while (ctl_value(c, "--set", &value) && value != NULL && set_count < ARRAY_LEN(sets))
        sets[set_count++] = value;
    if (ctl_value(c, "--timeout", &value)) {
        uint64_t seconds;
        if (value == NULL || !span_to_u64(span_of(value), 3600, &seconds))
            return ctl_fail(c, CTL_USAGE, "--timeout takes seconds");
        c->timeout_ms = (unsigned)seconds * 1000;
    }
    if (ctl_value(c, "--dir", &dir)) {
        if (dir == NULL)
            return ctl_fail(c, CTL_USAGE, "--dir takes a directory");
        c->config_file = in_dir = xasprintf("%s/jackdaw.conf", dir);
    } else if (ctl_value(c, "--config", &c->config_file) && c->config_file == NULL) {
        return ctl_fail(c, CTL_USAGE, "--config takes a file");
    }
    int code = CTL_USAGE;
    if (c->argc == 0) {
        usage(stderr);
    } else {
        c->verb = c->argv[0];
        argument_remove(c, 0, 1);
        const struct verb *verb = verb_find(c->verb);
        if (verb == NULL)
            ctl_fail(c, CTL_USAGE, "unknown verb %s; --help shows what there is", c->verb);
        else if (!verb->needs_config || config_load(c, sets, set_count))
            code = verb->run(c);
    }
    free(in_dir);
    return code;
}

int ctl_main(int argc, char **argv)
{
    struct ctl c = {.argc = argc - 1, .argv = argv + 1, .timeout_ms = TIMEOUT_DEFAULT_MS};
    log_set_name("jackdawctl");
    log_set_level(LOG_LEVEL_ERROR); /* what matters is said by ctl_fail */
    if (ctl_flag(&c, "--help") || ctl_flag(&c, "-h")) {
        usage(stdout);
        return CTL_OK;
    }
    if (ctl_flag(&c, "--version")) {
        printf("jackdawctl %s\n", JACKDAW_VERSION);
        return CTL_OK;
    }
    int code = verb_run(&c);
    redis_free(c.redis);
    for (int i = 0; c.ring != NULL && i < 3; i++)
        ring_turn(c.ring, 5); /* the operations of what was freed end */
    if (c.ring != NULL)
        ring_free(c.ring);
    if (c.conf != NULL)
        conf_free(c.conf);
    return code;
}

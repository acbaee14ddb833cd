/* One account at a time: adduser, deluser, passwd, disable, enable; and the list of all. */
#include <stdio.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#include "common/base/map.h"
#include "common/jid/jid.h"
#include "common/redis/account.h"
#include "deploy/ctl/ctl.h"

struct account_wait {
    bool came;
    enum account_status status;
};

static void on_account(struct account_call *call, enum account_status status, const struct account *account)
{
    struct account_wait *w = call->ctx;
    (void)account;
    w->came = true;
    w->status = status;
}

/* Waits for the answer and says it. */
static int account_finish(struct ctl *c, struct account_call *call, const char *jid, const char *done)
{
    struct account_wait *w = call->ctx;
    if (!ctl_wait(c, &w->came)) {
        account_cancel(c->redis, call);
        w->status = ACCOUNT_AWAY;
    }
    if (w->status == ACCOUNT_OK) {
        /* Who may change accounts leaves a trace where no such change can take it away. */
        syslog(LOG_AUTHPRIV | LOG_NOTICE, "account %s %s by uid=%u", jid, done, (unsigned)getuid());
        return ctl_done(c, "%s %s", jid, done);
    }
    return ctl_fail(c, w->status == ACCOUNT_AWAY ? CTL_AWAY : CTL_REFUSED, "%s: %s", jid,
                    account_status_text(w->status));
}

/* The one argument as a prepared JID, and the connection. False when it failed (code says how). */
static bool account_begin(struct ctl *c, bool any_domain, struct buf *jid, int *code)
{
    char *why = NULL;
    *code = CTL_USAGE;
    if (!ctl_arguments(c, 1, 1))
        return false;
    if (!ctl_user_jid(c, c->argv[0], any_domain, jid, &why)) {
        *code = ctl_fail(c, CTL_REFUSED, "%s", why);
        free(why);
        return false;
    }
    *code = CTL_AWAY;
    return ctl_connect(c);
}

static int account_write(struct ctl *c, bool create)
{
    struct buf jid = {0}, password = {0};
    struct sasl_keys keys;
    struct account_wait w = {0};
    struct account_call call = {.ctx = &w};
    int code = CTL_USAGE;
    bool replace = create && ctl_flag(c, "--replace");
    struct ctl_password given;
    ctl_password_options(c, &given);
    if (account_begin(c, !create, &jid, &code)) {
        if (!ctl_password_get(c, &given, &password)) {
            code = CTL_USAGE;
        } else if (!sasl_keys_derive(buf_span(&password), SASL_ITERATIONS_DEFAULT, &keys)) {
            code = ctl_fail(c, CTL_REFUSED, "the password holds characters that SASL does not allow");
        } else if (create) {
            account_create(c->redis, buf_span(&jid), &keys, replace, &call, on_account);
            code = account_finish(c, &call, buf_cstr(&jid), "added");
        } else {
            account_set_keys(c->redis, buf_span(&jid), &keys, &call, on_account);
            code = account_finish(c, &call, buf_cstr(&jid), "has a new password");
        }
        explicit_bzero(&keys, sizeof(keys));
    }
    if (password.n > 0)
        explicit_bzero(password.p, password.n);
    buf_free(&jid);
    buf_free(&password);
    return code;
}

int ctl_adduser(struct ctl *c)
{
    const char *file = NULL, *text = NULL;
    if (!ctl_value(c, "--file", &file))
        return account_write(c, true);
    uint64_t iterations = SASL_ITERATIONS_DEFAULT;
    bool replace = ctl_flag(c, "--replace");
    if (ctl_value(c, "--iterations", &text) &&
        (text == NULL || !span_to_u64(span_of(text), SASL_ITERATIONS_MAX, &iterations) || iterations < 4096))
        return ctl_fail(c, CTL_USAGE, "--iterations takes a number from 4096 to %u", SASL_ITERATIONS_MAX);
    if (file == NULL || !ctl_arguments(c, 0, 0))
        return file == NULL ? ctl_fail(c, CTL_USAGE, "--file takes a file, or - for standard input")
                            : CTL_USAGE;
    return ctl_adduser_file(c, file, replace, (uint32_t)iterations);
}

int ctl_passwd(struct ctl *c)
{
    return account_write(c, false);
}

/* Whoever is on-line with an account that has gone or is locked: their router ends them. */
static void router_tell(struct ctl *c, const char *verb, struct span bare)
{
    struct buf why = {0};
    struct jid jid;
    unsigned ended = 0;
    enum ctl_control_result result =
        jid_split(bare, &jid) ? ctl_control(c, verb, &jid, &ended, &why) : CTL_CONTROL_DONE;
    if (result == CTL_CONTROL_REFUSED || result == CTL_CONTROL_AWAY)
        fprintf(stderr, "jackdawctl: sessions of %.*s may live on until their router writes next: %s\n",
                SPAN_FMT(bare), buf_cstr(&why));
    buf_free(&why);
}

int ctl_deluser(struct ctl *c)
{
    struct buf jid = {0};
    struct account_wait w = {0};
    struct account_call call = {.ctx = &w};
    int code;
    if (account_begin(c, true, &jid, &code)) {
        router_tell(c, "forget", buf_span(&jid)); /* first: it still knows whom to tell about it */
        account_delete(c->redis, buf_span(&jid), &call, on_account);
        code = account_finish(c, &call, buf_cstr(&jid), "deleted");
    }
    buf_free(&jid);
    return code;
}

static int account_lock(struct ctl *c, bool disabled)
{
    struct buf jid = {0};
    struct account_wait w = {0};
    struct account_call call = {.ctx = &w};
    int code;
    if (account_begin(c, true, &jid, &code)) {
        account_set_disabled(c->redis, buf_span(&jid), disabled, &call, on_account);
        code = account_finish(c, &call, buf_cstr(&jid), disabled ? "disabled" : "enabled");
        if (code == CTL_OK && disabled)
            router_tell(c, "kick", buf_span(&jid));
    }
    buf_free(&jid);
    return code;
}

int ctl_disable(struct ctl *c)
{
    return account_lock(c, true);
}

int ctl_enable(struct ctl *c)
{
    return account_lock(c, false);
}

/* ---- users */

struct listing {
    struct map seen; /* a walk may tell one twice */
    bool done;
    enum account_status status;
};

static void listing_found(struct account_scan *scan, struct span jid)
{
    struct listing *l = scan->ctx;
    if (map_get(&l->seen, jid) == NULL) {
        char *copy = span_dup(jid);
        map_put(&l->seen, span_of(copy), copy);
    }
}

static void listing_done(struct account_scan *scan, enum account_status status)
{
    struct listing *l = scan->ctx;
    l->done = true;
    l->status = status;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void listing_print(struct ctl *c, struct listing *l)
{
    size_t at = 0, n = 0;
    char **names = xcalloc(l->seen.count + 1, sizeof(*names)), *name;
    struct buf out = {0};
    struct json j = {.out = &out};
    while ((name = map_next(&l->seen, &at)) != NULL)
        names[n++] = name;
    qsort(names, n, sizeof(*names), by_text);
    if (c->json) {
        json_open(&j, NULL, '{');
        json_u64(&j, "count", n);
        json_open(&j, "users", '[');
    }
    for (size_t i = 0; i < n; i++) {
        if (c->json)
            json_text(&j, NULL, span_of(names[i]));
        else
            buf_addf(&out, "%s\n", names[i]);
        free(names[i]);
    }
    if (c->json) {
        json_close(&j, ']');
        json_close(&j, '}');
        buf_add_char(&out, '\n');
    }
    free(names);
    ctl_print(&out);
}

int ctl_users(struct ctl *c)
{
    const char *domain = NULL;
    struct listing l = {0};
    struct account_scan scan = {.found = listing_found, .done = listing_done, .ctx = &l};
    if (ctl_value(c, "--domain", &domain) && domain == NULL)
        return ctl_fail(c, CTL_USAGE, "--domain takes a domain");
    if (!ctl_arguments(c, 0, 0))
        return CTL_USAGE;
    if (!ctl_connect(c))
        return CTL_AWAY;
    account_scan(c->redis, span_of(domain), &scan);
    /* A walk may take long; as long as it goes on, so do we. */
    for (size_t before = SIZE_MAX; !l.done && before != l.seen.count;) {
        before = l.seen.count;
        ctl_wait(c, &l.done);
    }
    account_scan_cancel(&scan);
    int code = CTL_OK;
    if (!l.done || l.status != ACCOUNT_OK)
        code = ctl_fail(c, CTL_AWAY, "%s", account_status_text(l.done ? l.status : ACCOUNT_AWAY));
    else
        listing_print(c, &l);
    map_free(&l.seen);
    return code;
}

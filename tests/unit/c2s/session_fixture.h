/* A session with a scripted world around it: what it asks is written down as text, what it writes is held
 * against what a dialogue expects. For the unit tests and the fuzz target of c2s. */
#ifndef JACKDAW_TESTS_SESSION_FIXTURE_H
#define JACKDAW_TESTS_SESSION_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>

#include "c2s/session.h"
#include "common/base/arena.h"
#include "common/base/text.h"
#include "common/log/log.h"

static struct session session;
static struct session_env env;
static struct buf asked; /* "open balcony\n" … */
static struct span domains[2];

static void ask_start_tls(struct session *s)
{
    buf_add_lit(&asked, "start_tls\n");
    session_tls(s);
}

static void ask_lookup(struct session *s, struct span bare)
{
    (void)s;
    buf_addf(&asked, "lookup %.*s\n", SPAN_FMT(bare));
}

static void ask_create(struct session *s, struct span bare, struct span password)
{
    (void)s;
    buf_addf(&asked, "create %.*s %.*s\n", SPAN_FMT(bare), SPAN_FMT(password));
}

static void ask_open(struct session *s, struct span resource)
{
    (void)s;
    buf_addf(&asked, "open %.*s\n", SPAN_FMT(resource));
}

static void ask_resume(struct session *s, struct span id, uint32_t h)
{
    (void)s;
    buf_addf(&asked, "resume %.*s %u\n", SPAN_FMT(id), h);
}

static void ask_enable(struct session *s, unsigned resume_s)
{
    (void)s;
    buf_addf(&asked, "enable %u\n", resume_s);
}

static void ask_stanza(struct session *s, const struct stanza *stanza, enum stanza_verdict verdict)
{
    buf_addf(&asked, "stanza %u %d %.*s\n", (unsigned)s->in_n, verdict, SPAN_FMT(stanza->raw));
}

static void ask_acked(struct session *s, uint64_t n)
{
    (void)s;
    buf_addf(&asked, "acked %u\n", (unsigned)n);
}

static void ask_output(struct session *s)
{
    (void)s;
}

static void ask_bound(struct session *s)
{
    buf_addf(&asked, "bound %s\n", s->jid);
}

static void ask_closing(struct session *s)
{
    (void)s;
    buf_add_lit(&asked, "closing\n");
}

static void ask_ended(struct session *s, enum session_end how)
{
    (void)s;
    buf_addf(&asked, "ended %d\n", how);
}

static const char *ask_peer(struct session *s)
{
    (void)s;
    return "192.0.2.1:5";
}

static bool ask_binding(struct session *s, bool exporter, struct buf *out)
{
    (void)s;
    if (exporter && out != NULL)
        buf_add_lit(out, "0123456789abcdef0123456789abcdef");
    return exporter;
}

static void ask_make_id(char out[33])
{
    memcpy(out, "ID", 3);
}

static const struct session_host fixture_host = {
    ask_start_tls, ask_lookup, ask_create,  ask_open,  ask_resume, ask_enable,  ask_stanza, ask_acked,
    ask_output,    ask_bound,  ask_closing, ask_ended, ask_peer,   ask_binding, ask_make_id};

/* A fresh session; the environment's switches may be changed before the first input. */
static void fixture_begin(bool tls)
{
    log_set_level(LOG_LEVEL_ERROR);
    domains[0] = SPAN("example.org");
    domains[1] = SPAN("example.net");
    memset(&session, 0, sizeof(session));
    env = (struct session_env){.host = &fixture_host, .domains = domains, .domain_count = 2};
    env.before_login.content_ns = NS_CLIENT;
    env.before_login.limits =
        (struct xml_limits){.element_max_bytes = 10000, .depth_max = 64, .attrs_max = 32};
    env.before_login.parser = xml_parser_new(NS_CLIENT);
    env.after_login = env.before_login;
    env.after_login.limits.element_max_bytes = 262144;
    env.have_tls = env.require_tls = env.channel_binding = true;
    env.auth_attempts = 3;
    env.registrations = 1;
    env.resume_s = 300;
    env.arena = arena_new(4096);
    buf_add_lit(&env.fake_seed, "seed");
    session_init(&session, &env, tls);
}

static void fixture_end(void)
{
    session_free(&session);
    xml_parser_free(env.before_login.parser);
    arena_free(env.arena);
    buf_free(&env.scratch);
    buf_free(&env.fake_seed);
    buf_free(&asked);
}

#endif

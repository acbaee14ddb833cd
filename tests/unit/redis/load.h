/* A load as a router makes it: users with mailboxes that are appended to under a claim, several batches of
 * each in flight; what got no answer is written again, in order, when Redis is back. At the end every mailbox
 * must hold exactly what was acknowledged, or more only of what was in doubt. */
#ifndef JACKDAW_TESTS_REDIS_LOAD_H
#define JACKDAW_TESTS_REDIS_LOAD_H

#include "common/redis/keys.h"
#include "tests/unit/redis/server.h"

enum { LOAD_USERS = 48, LOAD_FLIGHT = 4, LOAD_EVERY_MS = 4 };

struct writer {
    struct load *load;
    struct user_keys keys;
    unsigned next;   /* the id to be written next */
    unsigned acked;  /* all up to it are acknowledged */
    unsigned flight; /* commands without an answer yet */
    unsigned failed; /* of these already known to be lost */
    bool ready;      /* claimed */
    bool claiming;
};

struct load {
    struct client c;
    struct writer writers[LOAD_USERS];
    unsigned asked, answered, lost, refused;
    char why[128]; /* the first refusal */
    uint64_t push_ms;
    uint64_t gap_ms, last_ms; /* the longest time without any acknowledgement */
    bool stopping;
};

struct note {
    struct writer *w;
    unsigned id;
};

static inline void load_refused(struct load *l, const struct redis_reply *reply)
{
    if (l->refused++ == 0)
        snprintf(l->why, sizeof(l->why), "%.*s", SPAN_FMT(reply->text));
}

static inline void load_on_claim(void *ctx, const struct redis_reply *reply)
{
    struct writer *w = ctx;
    w->claiming = false;
    w->load->answered++;
    if (reply == NULL)
        w->load->lost++;
    else if (reply->kind != REDIS_KIND_LIST)
        load_refused(w->load, reply);
    else
        w->ready = true;
}

static inline void load_on_write(void *ctx, const struct redis_reply *reply)
{
    struct note *note = ctx;
    struct writer *w = note->w;
    struct load *l = w->load;
    l->answered++;
    w->flight--;
    if (reply == NULL) {
        l->lost++;
        w->failed++;
    } else if (reply->kind != REDIS_KIND_NUMBER) {
        load_refused(l, reply);
    } else {
        /* In order, or something was overtaken. */
        if (w->failed > 0 || note->id != w->acked + 1)
            l->refused++, snprintf(l->why, sizeof(l->why), "id %u came after %u", note->id, w->acked);
        w->acked = note->id;
        l->gap_ms = MAX(l->gap_ms, clock_mono_ms() - l->last_ms);
        l->last_ms = clock_mono_ms();
    }
    if (w->flight == 0 && w->failed > 0) {
        w->failed = 0;
        w->next = w->acked + 1; /* all over again from there */
    }
    free(note);
}

static inline void load_write(struct writer *w)
{
    char id[32], text[32];
    struct note *note = malloc(sizeof(*note));
    *note = (struct note){w, w->next};
    snprintf(id, sizeof(id), "%u-1", w->next);
    snprintf(text, sizeof(text), "message %u", w->next);
    struct span argv[] = {SPAN("FCALL"), SPAN("jd_write"), SPAN("3"), w->keys.owner, w->keys.mailbox,
                          w->keys.meta,  SPAN("1:test:1"), SPAN("a"), span_of(id),   span_of(text),
                          SPAN(""),      SPAN(""),         SPAN("1")};
    w->next++;
    w->flight++;
    w->load->asked++;
    redis_write(w->load->c.redis, w->keys.owner, ARRAY_LEN(argv), argv, load_on_write, note);
}

/* Keeps every writer busy. */
static inline void load_push(struct load *l)
{
    for (unsigned i = 0; i < LOAD_USERS && redis_is_up(l->c.redis); i++) {
        struct writer *w = &l->writers[i];
        const struct user_keys *k = &w->keys;
        if (!w->ready && !w->claiming) {
            w->claiming = true;
            l->asked++;
            redis_send(l->c.redis, k->owner, load_on_claim, w, SPAN("FCALL"), SPAN("jd_claim"), SPAN("6"),
                       k->owner, k->account, k->roster, k->sessions, k->mailbox, k->meta, SPAN("1"),
                       SPAN("test"), SPAN("1"));
        } else if (w->ready && w->failed == 0 && w->flight < LOAD_FLIGHT && !l->stopping) {
            load_write(w);
        }
    }
}

static inline void load_new(struct load *l, const char *domain, const char *url, unsigned timeout_ms,
                            unsigned wait_replicas)
{
    memset(l, 0, sizeof(*l));
    client_open(&l->c, &(struct redis_config){url, timeout_ms, wait_replicas});
    for (unsigned i = 0; i < LOAD_USERS; i++) {
        char jid[32];
        snprintf(jid, sizeof(jid), "user%u@%s", i, domain);
        user_keys_make(&l->writers[i].keys, span_of(jid));
        l->writers[i].load = l;
        l->writers[i].next = 1;
    }
    assert_true(client_wait(&l->c, &l->c.ups, 1, 10000));
    l->last_ms = clock_mono_ms();
}

static inline void load_run(struct load *l, unsigned ms)
{
    uint64_t end = clock_mono_ms() + ms;
    while (clock_mono_ms() < end) {
        if (clock_mono_ms() >= l->push_ms) { /* not as fast as it can: others work on this machine too */
            l->push_ms = clock_mono_ms() + LOAD_EVERY_MS;
            load_push(l);
        }
        ring_turn(l->c.ring, 5);
    }
}

/* The sum of what was acknowledged. */
static inline unsigned load_acked(const struct load *l)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < LOAD_USERS; i++)
        sum += l->writers[i].acked;
    return sum;
}

/* Runs until every writer has had so many more acknowledged. */
static inline void load_progress(struct load *l, unsigned more, unsigned limit_ms)
{
    unsigned goal[LOAD_USERS];
    uint64_t begun = clock_mono_ms();
    for (unsigned i = 0; i < LOAD_USERS; i++)
        goal[i] = l->writers[i].acked + more;
    for (unsigned i = 0; i < LOAD_USERS; i++) {
        while (l->writers[i].acked < goal[i] && !pace_over(begun, limit_ms))
            load_run(l, 10);
        if (l->writers[i].acked < goal[i])
            fail_msg("user%u stands still at %u: up=%d reason=%s refused=%u %s", i, l->writers[i].acked,
                     redis_is_up(l->c.redis), redis_reason(l->c.redis), l->refused, l->why);
    }
}

static inline void load_on_range(void *ctx, const struct redis_reply *reply)
{
    struct writer *w = ctx;
    unsigned count = 0;
    w->load->answered++;
    if (reply == NULL || reply->kind != REDIS_KIND_LIST) {
        w->load->lost++;
        return;
    }
    for (size_t i = 0; i < reply->count; i++) {
        char id[32];
        snprintf(id, sizeof(id), "%u-1", ++count);
        if (!span_is(reply->items[i].items[0].text, id))
            fail_msg("entry %s is missing, there is %.*s", id, SPAN_FMT(reply->items[i].items[0].text));
    }
    if (count < w->acked || count >= w->next)
        fail_msg("%u entries, %u acknowledged, %u asked for", count, w->acked, w->next - 1);
}

/* Writes no more, and waits until all that was written is answered. */
static inline void load_drain(struct load *l)
{
    uint64_t begun = clock_mono_ms();
    l->stopping = true;
    while (l->answered < l->asked && !pace_over(begun, 10000))
        load_run(l, 10);
    assert_int_equal(l->answered, l->asked); /* every callback came, once */
}

/* Writes again what was refused; after load_drain. */
static inline void load_forgive(struct load *l)
{
    l->stopping = false;
    l->refused = 0;
    for (unsigned i = 0; i < LOAD_USERS; i++) {
        assert_int_equal(l->writers[i].flight, 0);
        l->writers[i].next = l->writers[i].acked + 1;
    }
}

/* Stops, looks at every mailbox, and frees. */
static inline void load_end(struct load *l)
{
    load_drain(l);
    if (l->refused > 0)
        fail_msg("%u refused: %s", l->refused, l->why);
    unsigned lost = l->lost;
    for (unsigned i = 0; i < LOAD_USERS; i++) {
        struct writer *w = &l->writers[i];
        l->asked++;
        redis_send(l->c.redis, w->keys.mailbox, load_on_range, w, SPAN("XRANGE"), w->keys.mailbox, SPAN("-"),
                   SPAN("+"));
    }
    uint64_t begun = clock_mono_ms();
    while (l->answered < l->asked && !pace_over(begun, 10000))
        ring_turn(l->c.ring, 20);
    assert_int_equal(l->answered, l->asked);
    assert_int_equal(l->lost, lost);
    print_message("%u acknowledged, %u answers lost, longest silence %u ms\n", load_acked(l), lost,
                  (unsigned)l->gap_ms);
    client_free(&l->c);
    for (unsigned i = 0; i < LOAD_USERS; i++)
        user_keys_free(&l->writers[i].keys);
}

#endif

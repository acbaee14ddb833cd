/* Ticket keys are one Redis text: a time and three keys. Whoever sees that the newest is older than a day
 * writes the next generation with a compare-and-set (SET … under WATCH would need a connection of its own, so
 * a small script compares). Everybody reads the text every few minutes. A key encrypts for a day and decrypts
 * for three. */
#include "c2s/secrets.h"

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/log/log.h"
#include "common/redis/keys.h"
#include "common/ring/ring.h"

#define SEED_BYTES    32
#define ROTATE_MS     86400000ll
#define REFRESH_MS    300000
#define RETRY_MS      2000
#define TICKETS_BYTES (8 + SECRETS_TICKET_KEYS * TLS_TICKET_KEY_BYTES)
#define SEED_KEY      KEY_SECRET("scram-seed")
#define TICKETS_KEY   KEY_SECRET("tls-tickets")
#define COMPARE_AND_SET                                                         \
    SPAN("local old = redis.call('GET', KEYS[1]) or '' if old == ARGV[1] then " \
         "redis.call('SET', KEYS[1], ARGV[2]) return ARGV[2] end return old")

bool secrets_rotate(struct span old, uint64_t wall_ms, struct buf *out)
{
    uint64_t made_ms = 0;
    bool whole = old.n == TICKETS_BYTES;
    for (unsigned i = 0; whole && i < 8; i++)
        made_ms = made_ms << 8 | (uint8_t)old.p[i];
    /* Keys that were made far in the future are due as well: the clock that made them was wrong. */
    int64_t age_ms = clock_age_ms(wall_ms, made_ms);
    if (whole && age_ms < ROTATE_MS && age_ms > -ROTATE_MS)
        return false;
    for (unsigned i = 0; i < 8; i++)
        buf_add_char(out, (char)(wall_ms >> (56 - 8 * i)));
    const size_t key_n = TLS_TICKET_KEY_BYTES, keys_n = SECRETS_TICKET_KEYS * key_n;
    size_t fresh_n = whole ? key_n : keys_n;
    random_bytes(buf_reserve(out, fresh_n), fresh_n);
    out->n += fresh_n;
    if (whole)
        buf_add(out, old.p + 8, keys_n - key_n);
    return true;
}

static void use_tickets(struct secrets *s, struct span text)
{
    uint8_t keys[SECRETS_TICKET_KEYS][TLS_TICKET_KEY_BYTES];
    if (s->tls == NULL || text.n != TICKETS_BYTES)
        return;
    memcpy(keys, text.p + 8, sizeof(keys));
    tls_ctx_set_ticket_keys(s->tls, (const uint8_t(*)[TLS_TICKET_KEY_BYTES])keys, SECRETS_TICKET_KEYS);
}

static void again_soon(struct secrets *s)
{
    ring_timer_set(s->ring, &s->timer, RETRY_MS);
}

static void on_tickets_written(void *ctx, const struct redis_reply *reply)
{
    struct secrets *s = ctx;
    if (reply != NULL && reply->kind == REDIS_KIND_TEXT)
        use_tickets(s, reply->text);
    else
        again_soon(s);
}

static void on_tickets(void *ctx, const struct redis_reply *reply)
{
    struct secrets *s = ctx;
    if (reply == NULL || (reply->kind != REDIS_KIND_TEXT && reply->kind != REDIS_KIND_NIL)) {
        again_soon(s);
        return;
    }
    struct buf next = {0};
    if (secrets_rotate(reply->text, clock_wall_ms(), &next)) {
        log_info("c2s", "making a new TLS ticket key for the cluster");
        redis_send(s->redis, TICKETS_KEY, on_tickets_written, s, SPAN("EVAL"), COMPARE_AND_SET, SPAN("1"),
                   TICKETS_KEY, reply->text, buf_span(&next));
    } else {
        use_tickets(s, reply->text);
    }
    buf_free(&next);
}

static void on_seed(void *ctx, const struct redis_reply *reply)
{
    struct secrets *s = ctx;
    if (reply == NULL || reply->kind != REDIS_KIND_TEXT) {
        again_soon(s);
        return;
    }
    buf_clear(s->fake_seed);
    buf_add_span(s->fake_seed, reply->text);
}

void secrets_refresh(struct secrets *s)
{
    if (s->fake_seed->n == 0) {
        char seed[2 * SEED_BYTES + 1];
        random_hex(seed, SEED_BYTES);
        redis_send(s->redis, SEED_KEY, NULL, NULL, SPAN("SET"), SEED_KEY, span_of(seed), SPAN("NX"));
        redis_send(s->redis, SEED_KEY, on_seed, s, SPAN("GET"), SEED_KEY);
    }
    if (s->tls != NULL)
        redis_send(s->redis, TICKETS_KEY, on_tickets, s, SPAN("GET"), TICKETS_KEY);
    ring_timer_set(s->ring, &s->timer, REFRESH_MS);
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    secrets_refresh(CONTAINER_OF(t, struct secrets, timer));
}

void secrets_start(struct secrets *s, struct ring *ring, struct redis *redis, struct tls_ctx *tls,
                   struct buf *fake_seed)
{
    *s = (struct secrets){
        .ring = ring, .redis = redis, .tls = tls, .fake_seed = fake_seed, .timer.fire = on_timer};
}

void secrets_stop(struct secrets *s)
{
    ring_timer_clear(s->ring, &s->timer);
    redis_forget(s->redis, s);
}

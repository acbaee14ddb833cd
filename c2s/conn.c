/* Receiving: bytes → (PROXY header) → TLS → session_input; what a held session does not take is kept in
 * `held` and the socket is no longer read once that grows; at once when it sends too fast or does not read.
 * Sending: what the session has written goes, at the end of the turn, through one tls_write into `records`,
 * which change place with `sending` when the last send is done. */
#include "c2s/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "c2s/c2s.h"
#include "c2s/metrics.h"
#include "c2s/proxy.h"
#include "c2s/records.h"
#include "c2s/signup.h"
#include "common/base/random.h"
#include "common/log/log.h"

#define LINGER_MS        20000 /* for the router to take the last stanzas of a clean end */
#define DRAIN_LINGER_MS  1000  /* the same while the process drains */
#define HELD_PAUSE       4096  /* bytes kept for a held session before its socket is no longer read */
#define NUDGE_ANSWER_MS  30000
#define LAST_ACK_MS      5000 /* our closing tag waits so long for the router to say that all is safe */
#define PLAIN_KEEP       65536
#define RECORDS_A_STANZA 8 /* TLS records that a client may send for each stanza it may send */

/* How long an ended stream waits, and how long while the process drains: then a client that does not read
 * or does not close must not hold up the restart. */
static const struct {
    unsigned send_ms; /* for the last bytes to leave */
    unsigned end_ms;  /* for the peer's end after ours */
} patience[] = {{5000, 2000}, {1000, 300}};

static void conn_close(struct conn *c);
static void conn_read(struct conn *c);

const char *conn_peer(const struct conn *c)
{
    static char text[80];
    char host[INET6_ADDRSTRLEN];
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (memcmp(c->key, mapped, sizeof(mapped)) == 0)
        inet_ntop(AF_INET, c->key + 12, host, sizeof(host));
    else
        inet_ntop(AF_INET6, c->key, host, sizeof(host));
    snprintf(text, sizeof(text), strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, c->port);
    return text;
}

void conn_dirty(struct conn *c)
{
    if (list_empty(&c->dirty) && c->phase < CONN_CLOSED)
        list_add(&c->c2s->dirty, &c->dirty);
}

/* ---- taking down ---- */

static void conn_close(struct conn *c)
{
    if (c->phase == CONN_CLOSED)
        return;
    session_lost(&c->session);
    c->phase = CONN_CLOSED;
    ring_timer_clear(c->c2s->ring, &c->timer);
    ring_timer_clear(c->c2s->ring, &c->rate);
    list_del(&c->dirty);
    ring_cancel(c->c2s->ring, &c->recv);
    ring_cancel(c->c2s->ring, &c->send);
    c->expires_ms = ring_now_ms(c->c2s->ring) + (c->c2s->draining ? DRAIN_LINGER_MS : LINGER_MS);
    list_add(&c->c2s->dying, &c->dying);
    ring_again(c->c2s->ring);
}

/* Gives back everything but the session's debts to its router. */
static void conn_let_go(struct conn *c)
{
    if (c->fd < 0)
        return;
    ring_close(c->c2s->ring, NULL, c->fd, NULL);
    c->fd = -1;
    tls_free(c->tls);
    c->tls = NULL;
    buf_free(&c->records);
    buf_free(&c->sending);
    buf_free(&c->held);
    limits_leave(&c->c2s->limits, c->address, ring_now_ms(c->c2s->ring));
    c->address = NULL;
    if (c->account != NULL) {
        account_cancel(c->c2s->redis, c->account);
        free(c->account);
        c->account = NULL;
    }
    stat_set(&metric_open, metric_open.value - 1);
}

bool conn_bury(struct conn *c, uint64_t now_ms)
{
    if (op_busy(&c->recv) || op_busy(&c->send))
        return false;
    conn_let_go(c);
    if (!uplink_is_done(c) && now_ms < c->expires_ms)
        return false;
    if (c->up.first != NULL)
        log_warn("c2s", "gave up %u stanzas of an ended session jid=%s: no router took them; is one running?",
                 c->up.count, c->session.jid);
    uplink_drop(c);
    session_free(&c->session);
#ifndef NDEBUG
    xml_audit_free(&c->audit);
#endif
    list_del(&c->dying);
    list_del(&c->node);
    struct c2s *c2s = c->c2s;
    free(c);
    c2s_conn_gone(c2s);
    return true;
}

/* Our side has been said; waits for the peer's end so that no reset overtakes our last bytes. */
static void conn_shut(struct conn *c)
{
    c->phase = CONN_DRAINING;
    shutdown(c->fd, SHUT_WR);
    ring_timer_set(c->c2s->ring, &c->timer, patience[c->c2s->draining].end_ms);
    if (c->eof)
        conn_close(c);
    else
        conn_read(c);
}

/* ---- sending ---- */

/* Without stream management, what the kernel has taken is delivered; so is what went out before <enabled/>,
 * which the client's counting leaves out. */
static void confirm_sent(struct conn *c)
{
    struct session *s = &c->session;
    uint64_t n = s->sm ? MIN(c->confirm_sending, s->out_base) : c->confirm_sending;
    if (n <= c->confirmed)
        return;
    c->confirmed = n;
    if (!s->sm)
        s->out_acked = n;
    uplink_acked(c, n);
}

static void on_sent(struct ring_op *op, struct ring_result result)
{
    struct conn *c = CONTAINER_OF(op, struct conn, send);
    size_t n = c->sending.n;
    buf_shrink(&c->sending, 0);
    buf_free(&c->sending);
    if (c->phase == CONN_CLOSED)
        return;
    if (result.res < 0) {
        log_debug("c2s", "send failed peer=%s: %s", conn_peer(c), strerror(-result.res));
        conn_close(c);
        return;
    }
    stat_add(&metric_bytes_out, n);
    confirm_sent(c);
    conn_dirty(c);
}

/* Tells the router when the client reads too slowly, and when it has caught up; until then it can ask for
 * nothing more. */
static void check_flow(struct conn *c)
{
    size_t waiting = c->session.out.n + c->records.n + c->sending.n;
    size_t most = (size_t)c->c2s->conf->c2s_write_buffer_max_bytes;
    if (!c->flow && waiting > most) {
        c->flow = true;
        uplink_flow(c, true);
        stat_add(&metric_holds[4], 1);
        session_hold(&c->session, SESSION_HOLD_OUTPUT);
        conn_read(c);
    } else if (c->flow && waiting <= most / 2) {
        c->flow = false;
        uplink_flow(c, false);
        session_unhold(&c->session, SESSION_HOLD_OUTPUT);
        conn_wake(c);
        ring_again(c->c2s->ring); /* for what that has written */
    }
}

/* Moves what the session has written into `records`, encrypted when there is TLS. */
static bool seal(struct conn *c)
{
    struct buf *out = &c->session.out;
    if (out->n == 0)
        return true;
    if (c->tls != NULL && (c->shaking || !tls_write(c->tls, buf_span(out), &c->records)))
        return false;
#ifndef NDEBUG
    xml_audit(&c->audit, buf_span(out), conn_peer(c));
#endif
    if (c->tls == NULL) {
        if (c->records.n == 0) {
            struct buf empty = c->records;
            c->records = *out;
            *out = empty;
        } else {
            buf_add_span(&c->records, buf_span(out));
        }
    }
    buf_clear(out);
    buf_shrink(out, 0);
    return true;
}

void conn_flush(struct conn *c)
{
    if (c->phase == CONN_CLOSED)
        return;
    if (op_busy(&c->send)) {
        check_flow(c); /* on_sent makes it dirty again */
        return;
    }
    session_turn_end(&c->session);
    bool ended = c->phase == CONN_FINISHING;
    if (!seal(c) && !ended) {
        conn_close(c);
        return;
    }
    if (ended && c->tls != NULL && !c->shaking && c->session.state == SESSION_ENDED && !c->tls_said) {
        tls_close(c->tls, &c->records);
        c->tls_said = true;
    }
    if (c->records.n == 0) {
        check_flow(c);
        if (ended)
            conn_shut(c);
        return;
    }
    struct buf empty = c->sending;
    c->sending = c->records;
    c->records = empty;
    c->confirm_sending = c->session.out_confirm;
    stat_add(&metric_sends, 1);
    (ended ? ring_send_last : ring_send)(c->c2s->ring, &c->send, c->fd, c->sending.p, c->sending.n, on_sent);
    check_flow(c);
}

/* ---- receiving ---- */

/* The peer has ended its direction. After its closing tag it may still wait for ours. */
static void conn_half_closed(struct conn *c)
{
    if (c->session.state != SESSION_CLOSING)
        session_lost(&c->session);
}

/* Gives bytes in clear to the session; keeps what it does not take. */
static void conn_input(struct conn *c, struct span in)
{
    if (c->phase >= CONN_FINISHING)
        return;
    bool kept = c->held.n > 0;
    if (kept || c->session.holds != 0) {
        buf_add_span(&c->held, in);
        if (c->session.holds != 0)
            return;
        in = buf_span(&c->held);
        kept = true;
    }
    c->running = true;
    session_input(&c->session, &in);
    c->running = false;
    if (kept)
        buf_consume(&c->held, c->held.n - in.n);
    else if (in.n > 0)
        buf_add_span(&c->held, in);
    if (c->held.n == 0 || c->phase >= CONN_FINISHING)
        buf_free(&c->held);
}

static void conn_shaken(struct conn *c)
{
    struct tls_info info;
    tls_get_info(c->tls, &info);
    stat_add(info.resumed ? &metric_handshakes_resumed : &metric_handshakes, 1);
    c->shaking = false;
}

/* Takes bytes of the socket. */
static void conn_bytes(struct conn *c, struct span in)
{
    if (c->tls == NULL) {
        conn_input(c, in);
        return;
    }
    struct buf *plain = &c->c2s->plain;
    buf_clear(plain);
    enum tls_status status = tls_feed(c->tls, in, plain, &c->records);
    if (c->records.n > 0)
        conn_dirty(c);
    if (c->shaking && (status == TLS_OPEN || status == TLS_CLOSED))
        conn_shaken(c);
    if (plain->n > 0)
        conn_input(c, buf_span(plain));
    buf_shrink(plain, PLAIN_KEEP);
    if (status == TLS_FAILED) {
        if (c->shaking)
            stat_add(&metric_handshakes_failed, 1);
        log_info("c2s", "TLS %s peer=%s: %s", c->shaking ? "handshake failed" : "broken", conn_peer(c),
                 tls_error(c->tls));
        c->shaking = true; /* nothing of the session can be said any more (RFC 6120 §5.4.3.2) */
        session_lost(&c->session);
    } else if (status == TLS_CLOSED && c->phase == CONN_STREAM) {
        c->eof = true;
        if (c->session.holds == 0)
            conn_half_closed(c);
    }
}

/* Who it is, for the log. */
static void conn_name(struct conn *c, const struct sockaddr_storage *address)
{
    struct limits_key key = limits_key(address);
    memcpy(c->key, key.bytes, sizeof(c->key));
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        memcpy(c->key, &in6->sin6_addr, sizeof(c->key));
        c->port = ntohs(in6->sin6_port);
    } else if (address->ss_family == AF_INET) {
        c->port = ntohs(((const struct sockaddr_in *)address)->sin_port);
    }
}

/* The address that the socket itself has at its other end. */
static bool socket_address(int fd, struct sockaddr_storage *address)
{
    socklen_t n = sizeof(*address);
    memset(address, 0, sizeof(*address));
    return getpeername(fd, (struct sockaddr *)address, &n) == 0;
}

/* Counts it against the limits of its address. False: refused. */
static bool conn_admit(struct conn *c, const struct sockaddr_storage *address)
{
    struct c2s *c2s = c->c2s;
    conn_name(c, address);
    switch (limits_enter(&c2s->limits, address, ring_now_ms(c2s->ring), &c->address)) {
    case LIMITS_OK:
        return true;
    case LIMITS_TOO_MANY:
        stat_add(&metric_refused_many, 1);
        log_warn("c2s", "refused peer=%s: too many connections; see limits.connections_per_address",
                 conn_peer(c));
        return false;
    case LIMITS_TOO_FAST:
        stat_add(&metric_refused_fast, 1);
        log_warn("c2s", "refused peer=%s: connects too often; see limits.connection_rate_per_address",
                 conn_peer(c));
        return false;
    }
    return false;
}

/* Slows a client that sends faster than it may; says so once. */
static void charge(struct conn *c, struct bucket *b, int64_t rate, uint64_t cost, const char *option)
{
    if (!c->c2s->limits.enabled)
        return;
    uint64_t wait_ms = bucket_take(b, (uint64_t)rate, cost, ring_now_ms(c->c2s->ring));
    if (wait_ms == 0)
        return;
    stat_add(&metric_holds[3], 1);
    if (!c->slowed)
        log_info("c2s", "read more slowly jid=%s peer=%s: sends more than %s",
                 c->session.jid != NULL ? c->session.jid : "-", conn_peer(c), option);
    c->slowed = true;
    session_hold(&c->session, SESSION_HOLD_RATE);
    ring_timer_set(c->c2s->ring, &c->rate, MIN(wait_ms, 60000));
}

static void on_rate(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    struct conn *c = CONTAINER_OF(t, struct conn, rate);
    session_unhold(&c->session, SESSION_HOLD_RATE);
    conn_wake(c);
    if (c->phase != CONN_CLOSED)
        conn_read(c); /* another hold may still have room */
}

/* Charges what came from the socket, whatever is in it. Records cost, too: new keys without end are few bytes
 * and much work. */
static void charge_received(struct conn *c, struct span in)
{
    const struct conf *conf = c->c2s->conf;
    uint64_t cost = in.n;
    if (c->tls != NULL)
        cost +=
            records_count(in, &c->record_left, &c->record_header_n) *
            (uint64_t)(conf->limits_bytes_per_second / conf->limits_stanzas_per_second / RECORDS_A_STANZA);
    charge(c, &c->bytes, conf->limits_bytes_per_second, cost, "limits.bytes_per_second");
}

/* The PROXY header; true when bytes of the stream may follow in held. */
static void conn_proxy(struct conn *c, struct span in)
{
    struct proxy_header header = {0};
    buf_add_span(&c->held, in);
    enum proxy_status status = proxy_parse(buf_span(&c->held), &header);
    if (status == PROXY_MORE && c->held.n < PROXY_MAX_BYTES)
        return;
    if (status != PROXY_OK) {
        stat_add(&metric_proxy_bad, 1);
        log_warn("c2s",
                 "refused peer=%s: no PROXY header; does the load balancer send one? See c2s.proxy_protocol",
                 conn_peer(c));
        conn_close(c);
        return;
    }
    /* UNKNOWN and LOCAL: the connection is what it seems, the balancer's own, and counts as that. */
    bool named = header.known || socket_address(c->fd, &header.address);
    if (!named || !conn_admit(c, &header.address)) {
        conn_close(c);
        return;
    }
    c->phase = CONN_STREAM;
    struct buf rest = c->held;
    c->held = (struct buf){0};
    if (rest.n > header.n) {
        struct span first = span_sub(buf_span(&rest), header.n, rest.n);
        charge_received(c, first);
        conn_bytes(c, first);
    }
    buf_free(&rest);
}

static void conn_eof(struct conn *c, int error)
{
    if (error != 0)
        log_debug("c2s", "receive failed peer=%s: %s", conn_peer(c), strerror(error));
    c->eof = true;
    /* What was received before is still worth taking, unless the connection broke. */
    if (c->phase == CONN_STREAM && error == 0 && c->session.holds != 0 && c->held.n > 0) {
        ring_timer_set(c->c2s->ring, &c->timer, LINGER_MS);
    } else if (c->phase == CONN_STREAM && error == 0) {
        conn_half_closed(c); /* what is written already still goes out */
    } else if (c->phase != CONN_FINISHING || error != 0) {
        conn_close(c);
    }
}

static void on_received(struct ring_op *op, struct ring_result result)
{
    struct conn *c = CONTAINER_OF(op, struct conn, recv);
    if (c->phase == CONN_CLOSED)
        return;
    if (result.res > 0) {
        c->heard_s = (uint32_t)(ring_now_ms(c->c2s->ring) / 1000);
        stat_add(&metric_bytes_in, (uint64_t)result.res);
        struct span in = span_make(result.data, (size_t)result.res);
        if (c->phase == CONN_PROXY) {
            conn_proxy(c, in);
        } else if (c->phase < CONN_FINISHING) {
            charge_received(c, in);
            conn_bytes(c, in);
        }
        /* After our end the peer's bytes are only looked at for its end. */
    } else if (result.res == 0) {
        conn_eof(c, 0);
    } else if (result.res != -ECANCELED) {
        conn_eof(c, -result.res);
    }
    if (c->phase != CONN_CLOSED)
        conn_read(c);
}

/* Reads, or stops reading, as the session wants it. */
static void conn_read(struct conn *c)
{
    unsigned holds = c->session.holds;
    bool now = (holds & (SESSION_HOLD_RATE | SESSION_HOLD_OUTPUT)) != 0; /* whatever the bytes would be */
    bool pause = c->phase == CONN_STREAM && (now || (holds != 0 && c->held.n >= HELD_PAUSE));
    if (pause && op_busy(&c->recv))
        ring_cancel(c->c2s->ring, &c->recv);
    else if (!pause && !op_busy(&c->recv) && !c->eof)
        ring_recv(c->c2s->ring, &c->recv, c->fd, c->c2s->buffers, on_received);
}

void conn_wake(struct conn *c)
{
    if (c->phase != CONN_STREAM || c->session.holds != 0 || c->running)
        return;
    if (c->held.n > 0)
        conn_input(c, (struct span){0});
    if (c->phase != CONN_STREAM || c->session.holds != 0)
        return;
    if (c->eof)
        conn_half_closed(c);
    else
        conn_read(c);
}

/* ---- time ---- */

/* A bound session's timer: first for tls.slim_after_ms, which spares who logs in, does one thing and leaves;
 * then whenever it might have been idle for too long. */
static void on_idle(struct conn *c)
{
    struct ring *ring = c->c2s->ring;
    uint64_t idle_s = c->session.env->idle_s;
    /* Whom we don't read can't show that it lives; whether it reads, the kernel sees (TCP_USER_TIMEOUT). */
    if ((c->session.holds & (SESSION_HOLD_RATE | SESSION_HOLD_OUTPUT)) != 0)
        c->heard_s = (uint32_t)(ring_now_ms(ring) / 1000);
    uint64_t quiet_s = ring_now_ms(ring) / 1000 - c->heard_s;
    if (c->tls != NULL)
        tls_slim(c->tls);
    if (idle_s == 0)
        return;
    if (c->nudged && quiet_s >= idle_s) {
        session_fail(&c->session, SESSION_END_LOST, STREAM_E_CONNECTION_TIMEOUT, "no sign of life", NULL);
    } else if (quiet_s >= idle_s) {
        c->nudged = session_nudge(&c->session);
        ring_timer_set(ring, &c->timer, c->nudged ? NUDGE_ANSWER_MS : idle_s * 1000);
    } else {
        c->nudged = false;
        ring_timer_set(ring, &c->timer, (idle_s - quiet_s) * 1000);
    }
}

static void on_timer(struct timer *t, uint64_t now_ms)
{
    (void)now_ms;
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    if (c->session.state == SESSION_CLOSING) {
        session_closed(&c->session);
    } else if (c->phase >= CONN_FINISHING || c->eof) {
        conn_close(c);
    } else if (c->leaving) {
        session_fail(&c->session, SESSION_END_LOST, STREAM_E_SYSTEM_SHUTDOWN, NULL, NULL);
    } else if (c->phase == CONN_PROXY || c->shaking) {
        stat_add(c->shaking ? &metric_handshakes_failed : &metric_proxy_bad, 1);
        log_info("c2s", "closed peer=%s: no %s within c2s.login_timeout_s", conn_peer(c),
                 c->shaking ? "TLS handshake" : "PROXY header");
        conn_close(c);
    } else if (c->session.state == SESSION_BOUND) {
        on_idle(c);
    } else if (c->session.state == SESSION_OPENING || c->session.state == SESSION_RESUMING) {
        session_fail(&c->session, SESSION_END_LOST, STREAM_E_INTERNAL_SERVER_ERROR,
                     "no router answers; try again later", NULL);
    } else {
        session_fail(&c->session, SESSION_END_CLEAN, STREAM_E_CONNECTION_TIMEOUT, "log-in takes too long",
                     NULL);
    }
}

void conn_leave(struct conn *c, uint64_t delay_ms)
{
    struct ring *ring = c->c2s->ring;
    c->leaving = true;
    if (c->phase == CONN_CLOSED)
        c->expires_ms = MIN(c->expires_ms, ring_now_ms(ring) + DRAIN_LINGER_MS);
    else if (c->phase >= CONN_FINISHING)
        ring_timer_set(ring, &c->timer,
                       c->phase == CONN_DRAINING ? patience[true].end_ms : patience[true].send_ms);
    else
        ring_timer_set(ring, &c->timer, delay_ms);
}

/* ---- the session's questions ---- */

static struct conn *conn_of(struct session *s)
{
    return CONTAINER_OF(s, struct conn, session);
}

static void host_start_tls(struct session *s)
{
    struct conn *c = conn_of(s);
    seal(c); /* <proceed/> leaves in clear */
    conn_dirty(c);
    c->tls = tls_accept(c->c2s->tls);
    struct buf domain = {0};
    if (jid_domain_to_ascii(s->env->domains[s->domain], &domain))
        tls_prefer_domain(c->tls, buf_cstr(&domain));
    buf_free(&domain);
    c->shaking = true;
    session_tls(s);
}

static void on_account(struct account_call *call, enum account_status status, const struct account *account)
{
    struct conn *c = call->ctx;
    c->account = NULL;
    free(call);
    session_account(&c->session,
                    status == ACCOUNT_OK
                        ? account->disabled ? SESSION_ACCOUNT_DISABLED : SESSION_ACCOUNT_FOUND
                    : status == ACCOUNT_NONE ? SESSION_ACCOUNT_NONE
                                             : SESSION_ACCOUNT_AWAY,
                    status == ACCOUNT_OK ? &account->keys : NULL);
    conn_wake(c);
}

static struct account_call *account_call(struct conn *c)
{
    CHECK(c->account == NULL);
    c->account = xcalloc(1, sizeof(*c->account));
    c->account->ctx = c;
    return c->account;
}

static void host_lookup(struct session *s, struct span bare)
{
    struct conn *c = conn_of(s);
    stat_add(&metric_holds[0], 1);
    account_get(c->c2s->redis, bare, account_call(c), on_account);
}

static void host_create(struct session *s, struct span bare, struct span password)
{
    signup_begin(conn_of(s), bare, password);
}

static void host_open(struct session *s, struct span resource)
{
    stat_add(&metric_holds[0], 1);
    uplink_open(conn_of(s), resource);
}

static void host_resume(struct session *s, struct span sm_id, uint32_t h)
{
    stat_add(&metric_holds[0], 1);
    uplink_resume(conn_of(s), sm_id, h);
}

static void host_enable(struct session *s, unsigned resume_s)
{
    uplink_enable(conn_of(s), resume_s);
}

static void host_stanza(struct session *s, const struct stanza *stanza, enum stanza_verdict verdict)
{
    struct conn *c = conn_of(s);
    charge(c, &c->stanzas, c->c2s->conf->limits_stanzas_per_second, 1, "limits.stanzas_per_second");
    uplink_stanza(c, stanza, verdict);
}

static void host_acked(struct session *s, uint64_t n)
{
    uplink_acked(conn_of(s), n);
}

static void host_output(struct session *s)
{
    conn_dirty(conn_of(s));
}

static void host_bound(struct session *s)
{
    struct conn *c = conn_of(s);
    struct tls_info info = {.version = "none", .cipher = "none"};
    if (c->tls != NULL)
        tls_get_info(c->tls, &info);
    stat_set(&metric_sessions, metric_sessions.value + 1);
    c->opened_ms = ring_now_ms(c->c2s->ring);
    log_info("c2s", "session open jid=%s peer=%s tls=%s cipher=%s mechanism=%s resumed=%d", s->jid,
             conn_peer(c), info.version, info.cipher, sasl_mech_name(s->mech), s->sm);
    if (c->leaving)
        return;
    ring_timer_clear(c->c2s->ring, &c->timer);
    if (c->tls != NULL && c->c2s->conf->tls_slim_after_ms > 0)
        ring_timer_set(c->c2s->ring, &c->timer, (uint64_t)c->c2s->conf->tls_slim_after_ms);
    else if (s->env->idle_s > 0)
        ring_timer_set(c->c2s->ring, &c->timer, s->env->idle_s * 1000ull);
}

static void host_closing(struct session *s)
{
    struct conn *c = conn_of(s);
    if (!c->leaving)
        ring_timer_set(c->c2s->ring, &c->timer, LAST_ACK_MS);
}

static void host_ended(struct session *s, enum session_end how)
{
    static const char *const hows[] = {"clean", "lost", "killed", "taken over"};
    struct conn *c = conn_of(s);
    if (c->opened_ms != 0) {
        stat_set(&metric_sessions, metric_sessions.value - 1);
        log_info(
            "c2s", "session closed jid=%s peer=%s how=%s seconds=%llu in=%llu handled=%llu out=%llu", s->jid,
            conn_peer(c), hows[how], (unsigned long long)(ring_now_ms(c->c2s->ring) - c->opened_ms) / 1000,
            (unsigned long long)s->in_n, (unsigned long long)s->in_handled, (unsigned long long)s->out_n);
    }
    /* A client that can resume sends again what was not handled; of any other this is the only copy. */
    bool lost = how == SESSION_END_LOST;
    uplink_close(c, lost ? WIRE_CLOSE_LOST : WIRE_CLOSE_CLEAN, how == SESSION_END_CLEAN || lost,
                 !(lost && s->resumable));
    if (!c->running)
        buf_free(&c->held);
    if (c->phase == CONN_CLOSED)
        return;
    c->phase = CONN_FINISHING;
    ring_timer_set(c->c2s->ring, &c->timer, patience[c->c2s->draining].send_ms);
    conn_dirty(c);
}

static const char *host_peer(struct session *s)
{
    return conn_peer(conn_of(s));
}

static bool host_binding(struct session *s, bool exporter, struct buf *out)
{
    struct conn *c = conn_of(s);
    return c->tls != NULL &&
           tls_get_binding(c->tls, exporter ? TLS_BINDING_EXPORTER : TLS_BINDING_SERVER_END_POINT, out);
}

static void host_make_id(char out[33])
{
    random_hex(out, 16);
}

const struct session_host conn_session_host = {.start_tls = host_start_tls,
                                               .lookup = host_lookup,
                                               .create = host_create,
                                               .open = host_open,
                                               .resume = host_resume,
                                               .enable = host_enable,
                                               .stanza = host_stanza,
                                               .acked = host_acked,
                                               .output = host_output,
                                               .bound = host_bound,
                                               .closing = host_closing,
                                               .ended = host_ended,
                                               .peer = host_peer,
                                               .binding = host_binding,
                                               .make_id = host_make_id};

/* ---- the beginning ---- */

void conn_accept(struct c2s *c2s, int fd, bool tls)
{
    struct sockaddr_storage address;
    if (!socket_address(fd, &address)) {
        close(fd); /* gone already */
        return;
    }
    struct conn *c = xcalloc(1, sizeof(*c));
    c->c2s = c2s;
    c->fd = fd;
    c->heard_s = (uint32_t)(ring_now_ms(c2s->ring) / 1000);
    c->timer.fire = on_timer;
    c->rate.fire = on_rate;
    c->phase = c2s->conf->c2s_proxy_protocol ? CONN_PROXY : CONN_STREAM;
    list_init(&c->dirty);
    list_init(&c->dying);
    list_init(&c->up.waiting);
    list_add(&c2s->conns, &c->node);
    c2s->count++;
    stat_add(&metric_connections, 1);
    stat_set(&metric_open, metric_open.value + 1);
    session_init(&c->session, &c2s->env, tls);
    if (tls) {
        c->tls = tls_accept(c2s->tls);
        c->shaking = true;
    }
    conn_name(c, &address); /* behind a balancer until it says whose it is */
    if (c->phase == CONN_STREAM && !conn_admit(c, &address)) {
        conn_close(c);
        return;
    }
    ring_timer_set(c2s->ring, &c->timer, (uint64_t)c2s->conf->c2s_login_timeout_s * 1000);
    conn_read(c);
}

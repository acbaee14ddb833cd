/* A process's life: read the configuration; make loop, stats socket, bus, Redis, membership, then the role;
 * turn the loop. The role is ready when Redis answers and the first epoch names this incarnation. SIGTERM and
 * SIGINT come as data through a signalfd on the loop: the role drains, then the process leaves the membership
 * (a PING behind the leave tells that Redis has it) and the loop ends. */
#include "common/proc/proc.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/random.h"
#include "common/bus/bus.h"
#include "common/config/conf.h"
#include "common/log/log.h"
#include "common/member/member.h"
#include "common/proc/args.h"
#include "common/proc/check.h"
#include "common/proc/crash.h"
#include "common/proc/endpoint.h"
#include "common/proc/guests.h"
#include "common/redis/redis.h"
#include "common/ring/ring.h"
#include "common/stats/stats.h"

#define DRAIN_MAX_MS   5000
#define LEAVE_MAX_MS   500
#define WAIT_NOTICE_MS 1000
#define WAIT_AGAIN_MS  10000
#define CLOSE_TURNS    4

enum proc_state { PROC_STATE_STARTING, PROC_STATE_READY, PROC_STATE_DRAINING, PROC_STATE_LEAVING };

struct proc {
    const struct proc_role *role;
    void *self; /* the role's state */
    struct args args;
    struct conf *conf;
    struct ring *ring;
    struct bus *bus;
    struct redis *redis;
    struct guests guests;
    struct member *member;
    struct endpoint *endpoint;
    struct member_node node;
    enum proc_state state;
    int signal_fd;
    struct ring_op signal_op;
    struct timer second;
    struct timer wait_notice; /* set while Redis has never answered */
    struct timer limit;       /* of drain and leave */
    uint64_t second_due_ms;
};

/* The one process, for the crash report and for gauges. */
static struct proc *the_proc;

static struct stat_gauge gauge_ready = STAT_GAUGE("jackdaw_ready", "1 while the process serves", NULL);
static struct stat_gauge gauge_redis = STAT_GAUGE("jackdaw_redis_up", "1 while Redis answers", NULL);
static struct stat_gauge gauge_start =
    STAT_GAUGE("jackdaw_start_time_seconds", "Start of the process, seconds since 1970", NULL);
static struct stat_gauge gauge_resident =
    STAT_GAUGE("jackdaw_resident_memory_bytes", "Resident memory of the process", NULL);
static struct stat_gauge gauge_cpu =
    STAT_GAUGE("jackdaw_cpu_milliseconds", "CPU time used, user and system", NULL);
static struct stat_gauge gauge_lag =
    STAT_GAUGE("jackdaw_loop_lag_milliseconds", "How late the last once-a-second timer fired", NULL);
static struct stat_gauge gauge_descriptors =
    STAT_GAUGE("jackdaw_descriptors_max", "Descriptors that this process may have", NULL);
static struct stat_gauge gauge_info =
    STAT_GAUGE("jackdaw_process_info", "Who this process is; always 1", NULL);

const struct conf *proc_conf(const struct proc *p)
{
    return p->conf;
}

struct ring *proc_ring(const struct proc *p)
{
    return p->ring;
}

struct bus *proc_bus(const struct proc *p)
{
    return p->bus;
}

struct redis *proc_redis(const struct proc *p)
{
    return p->redis;
}

struct member *proc_member(const struct proc *p)
{
    return p->member;
}

const char *proc_name(const struct proc *p)
{
    return p->node.name;
}

uint64_t proc_incarnation(const struct proc *p)
{
    return p->node.incarnation;
}

/* State and readiness */

static const char *proc_state_word(enum proc_state state)
{
    static const char *const words[] = {"starting", "ready", "draining", "leaving"};
    return words[state];
}

static void proc_enter_state(struct proc *p, enum proc_state state)
{
    log_info("proc", "%s -> %s", proc_state_word(p->state), proc_state_word(state));
    p->state = state;
}

/* True when an epoch is in force that names this incarnation. */
static bool proc_is_member(const struct proc *p)
{
    const struct member_node *own = member_find(p->member, p->node.name);
    return member_epoch(p->member) > 0 && own != NULL && own->incarnation == p->node.incarnation;
}

/* Tells the endpoint what stands in the way, and the role, once, when nothing does. */
static void proc_check_ready(struct proc *p)
{
    const char *why = NULL;
    if (p->state >= PROC_STATE_DRAINING)
        why = "draining";
    else if (!redis_is_up(p->redis))
        why = "waiting for Redis";
    else if (!proc_is_member(p))
        why = "waiting for the membership";
    else if (!member_holds_lease(p->member))
        why = "the lease is lost";
    if (why == NULL && p->state == PROC_STATE_STARTING) {
        proc_enter_state(p, PROC_STATE_READY);
        if (p->role->ready != NULL)
            p->role->ready(p->self);
    }
    endpoint_set_not_ready(p->endpoint, why);
    stat_set(&gauge_ready, why == NULL);
    stat_set(&gauge_redis, redis_is_up(p->redis));
}

/* Events of the rooms below */

static void on_frame(void *ctx, struct bus_peer *from, struct span frame)
{
    struct proc *p = ctx;
    if (p->role->frame != NULL && guests_admit(&p->guests, from, frame))
        p->role->frame(p->self, from, frame);
}

static void take_held(void *ctx, struct bus_peer *from, struct span frame)
{
    struct proc *p = ctx;
    p->role->frame(p->self, from, frame);
}

static void on_peer_up(void *ctx, struct bus_peer *peer)
{
    struct proc *p = ctx;
    log_info("proc", "link up peer=%s", bus_peer_name(peer));
    if (p->role->peer_up != NULL)
        p->role->peer_up(p->self, peer);
}

static void on_peer_suspect(void *ctx, struct bus_peer *peer, bool certain)
{
    struct proc *p = ctx;
    log_warn("proc", "link broken peer=%s certain=%d", bus_peer_name(peer), certain);
    member_report_dead(p->member, bus_peer_name(peer), bus_peer_incarnation(peer), certain);
}

static void on_peer_gone(void *ctx, struct bus_peer *peer)
{
    struct proc *p = ctx;
    log_info("proc", "link gone peer=%s", bus_peer_name(peer));
    guests_gone(&p->guests, peer);
    if (p->role->peer_gone != NULL)
        p->role->peer_gone(p->self, peer);
}

static void on_peer_room(void *ctx, struct bus_peer *peer)
{
    struct proc *p = ctx;
    if (p->role->peer_room != NULL)
        p->role->peer_room(p->self, peer);
}

static void on_redis_state(void *ctx, bool up)
{
    struct proc *p = ctx;
    if (up) {
        ring_timer_clear(p->ring, &p->wait_notice);
        log_info("proc", "Redis answers");
    } else {
        log_error("proc",
                  "Redis does not answer: streams are kept, new work waits or is refused until it is back; "
                  "look at Redis and at redis.url");
    }
    if (p->role->redis_state != NULL)
        p->role->redis_state(p->self, up);
    proc_check_ready(p);
}

static void on_epoch(void *ctx)
{
    struct proc *p = ctx;
    unsigned count;
    member_nodes(p->member, &count);
    log_info("proc", "epoch=%u nodes=%u", member_epoch(p->member), count);
    if (p->role->epoch != NULL)
        p->role->epoch(p->self);
    guests_joined(&p->guests, take_held, p);
    proc_check_ready(p);
}

static void on_lease_lost(void *ctx)
{
    struct proc *p = ctx;
    log_error("proc",
              "the lease could not be renewed in time: this process stops acting as an owner; look at Redis "
              "and the load of this machine, or raise cluster.lease_ms");
    if (p->role->lease != NULL)
        p->role->lease(p->self, false);
    proc_check_ready(p);
}

static void on_lease_back(void *ctx)
{
    struct proc *p = ctx;
    log_info("proc", "the lease is held again epoch=%u", member_epoch(p->member));
    if (p->role->lease != NULL)
        p->role->lease(p->self, true);
    proc_check_ready(p);
}

static const struct bus_handler bus_events = {.frame = on_frame,
                                              .up = on_peer_up,
                                              .suspect = on_peer_suspect,
                                              .gone = on_peer_gone,
                                              .room = on_peer_room};
static const struct member_handler member_events = {
    .changed = on_epoch, .lease_lost = on_lease_lost, .lease_back = on_lease_back};

/* The end */

static void on_left(void *ctx, const struct redis_reply *reply)
{
    struct proc *p = ctx;
    (void)reply;
    ring_stop(p->ring);
}

static void on_limit(struct timer *t, uint64_t now_ms)
{
    struct proc *p = CONTAINER_OF(t, struct proc, limit);
    (void)now_ms;
    if (p->state == PROC_STATE_DRAINING) {
        log_warn("proc", "the drain took longer than %d ms; ending with work left", DRAIN_MAX_MS);
        proc_drained(p);
    } else {
        ring_stop(p->ring);
    }
}

void proc_drained(struct proc *p)
{
    if (p->state == PROC_STATE_LEAVING)
        return;
    proc_enter_state(p, PROC_STATE_LEAVING);
    member_leave(p->member);
    ring_timer_set(p->ring, &p->limit, LEAVE_MAX_MS);
    redis_send(p->redis, span_of(""), on_left, p, SPAN("PING"));
}

static void proc_drain(struct proc *p)
{
    if (p->state == PROC_STATE_STARTING || p->role->drain == NULL) {
        proc_enter_state(p, PROC_STATE_DRAINING);
        proc_check_ready(p);
        proc_drained(p);
        return;
    }
    proc_enter_state(p, PROC_STATE_DRAINING);
    proc_check_ready(p);
    ring_timer_set(p->ring, &p->limit, DRAIN_MAX_MS);
    member_drain(p->member);
    p->role->drain(p->self);
}

/* The configuration stays as it was at start but for the log level, which is safe to change at any time. */
static void proc_reload(struct proc *p)
{
    struct buf errors = {0};
    struct conf *fresh = args_conf(&p->args, &errors);
    if (fresh != NULL) {
        log_set_level((enum log_level)fresh->log_level);
        log_info("proc", "SIGHUP: certificates and log.level are read again; other options need a restart");
        conf_free(fresh);
    } else {
        log_error("proc", "SIGHUP: the configuration has mistakes, nothing is changed: %s",
                  buf_cstr(&errors));
    }
    buf_free(&errors);
    if (p->role->reload != NULL)
        p->role->reload(p->self);
}

static void proc_signal(struct proc *p, int number)
{
    if (number == SIGHUP) {
        proc_reload(p);
    } else if (p->state < PROC_STATE_DRAINING) {
        log_info("proc", "signal %d: draining", number);
        proc_drain(p);
    } else {
        log_warn("proc", "signal %d again: ending at once", number);
        ring_stop(p->ring);
    }
}

static void on_signal(struct ring_op *op, struct ring_result result)
{
    struct proc *p = CONTAINER_OF(op, struct proc, signal_op);
    struct signalfd_siginfo info;
    if (result.res == -ECANCELED)
        return;
    while (read(p->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        proc_signal(p, (int)info.ssi_signo);
    ring_poll(p->ring, &p->signal_op, p->signal_fd, POLLIN, on_signal);
}

/* Once a second */

static int64_t resident_bytes(void)
{
    char text[128] = "";
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL)
        return 0;
    if (fgets(text, sizeof text, f) == NULL)
        text[0] = '\0';
    fclose(f);
    const char *second = strchr(text, ' '); /* total resident shared ..., in pages */
    return second != NULL ? strtoll(second, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
}

static void on_second(struct timer *t, uint64_t now_ms)
{
    struct proc *p = CONTAINER_OF(t, struct proc, second);
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    stat_set(&gauge_lag, now_ms > p->second_due_ms ? (int64_t)(now_ms - p->second_due_ms) : 0);
    stat_set(&gauge_resident, resident_bytes());
    stat_set(&gauge_cpu, (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000 +
                             (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1000);
    stat_refresh();
    endpoint_alive(p->endpoint, clock_mono_ms());
    proc_check_ready(p);
    p->second_due_ms = now_ms + 1000;
    ring_timer_set(p->ring, &p->second, 1000);
}

/* The place of Redis without its password. */
static void log_waiting(const struct proc *p)
{
    const char *url = p->conf->redis_url, *rest = strstr(url, "://");
    const char *at = rest != NULL ? strrchr(rest, '@') : NULL;
    log_warn("proc", "waiting for Redis at %s%s: start it, or set redis.url", at != NULL ? "..." : "",
             at != NULL ? at : url);
}

static void on_wait_notice(struct timer *t, uint64_t now_ms)
{
    struct proc *p = CONTAINER_OF(t, struct proc, wait_notice);
    (void)now_ms;
    log_waiting(p);
    ring_timer_set(p->ring, &p->wait_notice, WAIT_AGAIN_MS);
}

/* The start */

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        stat_set(&gauge_descriptors, (int64_t)MIN(limit.rlim_cur, (rlim_t)INT64_MAX));
}

/* Blocks the signals that the loop reads, before any thread exists that could take them. */
static int signals_open(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void on_crash_note(void)
{
    if (the_proc != NULL && the_proc->self != NULL && the_proc->role->crash_note != NULL)
        the_proc->role->crash_note(the_proc->self);
    else
        fputs("nothing in particular\n", stderr);
}

static void register_gauges(const struct proc *p)
{
    static struct stat_gauge *const gauges[] = {&gauge_ready,       &gauge_redis, &gauge_start,
                                                &gauge_resident,    &gauge_cpu,   &gauge_lag,
                                                &gauge_descriptors, &gauge_info};
    static char labels[128];
    snprintf(labels, sizeof labels, "name=\"%s\",role=\"%s\",version=\"%s\"", p->node.name, p->role->role,
             JACKDAW_VERSION);
    gauge_info.meta.labels = labels;
    stat_set(&gauge_info, 1);
    stat_set(&gauge_start, (int64_t)(clock_wall_ms() / 1000));
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
        stat_register(&gauges[i]->meta);
    guests_register_stats();
}

static bool open_bus(struct proc *p, char **error)
{
    const char *run_dir = p->conf->cluster_run_dir;
    char *listen = p->conf->bus_listen[0] != '\0' ? xstrdup(p->conf->bus_listen)
                                                  : xasprintf("ipc://%s/%s.ipc", run_dir, p->node.name);
    if (strncmp(listen, "ipc://", 6) == 0 && mkdir(run_dir, 0700) != 0 && errno != EEXIST)
        log_warn("proc", "cannot make cluster.run_dir %s: %m; make it, or set another", run_dir);
    struct bus_config config = {.name = p->node.name,
                                .incarnation = p->node.incarnation,
                                .listen = listen,
                                .curve_secret_key = p->conf->bus_curve_secret_key,
                                .libzmq = p->conf->bus_libzmq,
                                .heartbeat_ms = (unsigned)p->conf->bus_heartbeat_ms};
    p->bus = bus_new(p->ring, &config, &bus_events, p, error);
    free(listen);
    if (p->bus == NULL)
        return false;
    guests_init(&p->guests, p->bus);
    snprintf(p->node.endpoint, sizeof p->node.endpoint, "%s", bus_endpoint(p->bus));
    return true;
}

static bool open_redis(struct proc *p, char **error)
{
    struct redis_config config = {.url = p->conf->redis_url,
                                  .timeout_ms = (unsigned)p->conf->redis_timeout_ms,
                                  .wait_replicas = (unsigned)p->conf->redis_wait_replicas};
    p->redis = redis_new(p->ring, &config, on_redis_state, p, error);
    return p->redis != NULL;
}

/* Makes everything, in an order in which each part finds what it needs. False with *error set, or NULL when
 * the role has logged why. */
static bool proc_open(struct proc *p, char **error)
{
    const char *why = NULL;
    p->ring = ring_new(0, &why);
    if (p->ring == NULL) {
        *error = xstrdup(why);
        return false;
    }
    p->endpoint = endpoint_open(p->conf->stats_listen, error);
    if (p->endpoint == NULL)
        return false;
    snprintf(p->node.stats, sizeof p->node.stats, "%.63s", endpoint_address(p->endpoint));
    if (!open_bus(p, error) || !open_redis(p, error))
        return false;
    p->member = member_new(p->ring, p->redis, p->bus, &p->node, (unsigned)p->conf->cluster_lease_ms,
                           &member_events, p);
    p->self = p->role->start(p);
    if (p->self == NULL || !endpoint_start(p->endpoint, error))
        return false;
    log_info("proc", "started version=%s incarnation=%llu bus=%s stats=http://%s/stats", JACKDAW_VERSION,
             (unsigned long long)p->node.incarnation, p->node.endpoint, p->node.stats);
    return true;
}

static void proc_close(struct proc *p)
{
    if (p->self != NULL && p->role->stop != NULL)
        p->role->stop(p->self);
    p->self = NULL;
    endpoint_free(p->endpoint);
    if (p->member != NULL)
        member_free(p->member);
    if (p->redis != NULL)
        redis_free(p->redis);
    if (p->bus != NULL) {
        guests_gone(&p->guests, NULL);
        bus_free(p->bus);
    }
    if (p->ring == NULL)
        return;
    ring_timer_clear(p->ring, &p->second);
    ring_timer_clear(p->ring, &p->wait_notice);
    ring_timer_clear(p->ring, &p->limit);
    ring_cancel(p->ring, &p->signal_op);
    /* The rooms free what the kernel still holds in the final callbacks of their operations. */
    for (int i = 0; i < CLOSE_TURNS; i++)
        ring_turn(p->ring, 1);
    ring_free(p->ring);
}

static void proc_run(struct proc *p)
{
    p->second.fire = on_second;
    p->wait_notice.fire = on_wait_notice;
    p->limit.fire = on_limit;
    p->second_due_ms = ring_now_ms(p->ring);
    ring_timer_set(p->ring, &p->second, 0);
    ring_timer_set(p->ring, &p->wait_notice, WAIT_NOTICE_MS);
    ring_poll(p->ring, &p->signal_op, p->signal_fd, POLLIN, on_signal);
    ring_run(p->ring);
    log_info("proc", "ended");
}

static int proc_start(struct proc *p)
{
    char *error = NULL;
    if (p->args.name != NULL)
        snprintf(p->node.name, sizeof p->node.name, "%.63s", p->args.name);
    else
        snprintf(p->node.name, sizeof p->node.name, "%.15s-1", p->role->role);
    snprintf(p->node.role, sizeof p->node.role, "%.15s", p->role->role);
    p->node.incarnation = random_u64();
    log_set_name(p->node.name);
    log_set_level((enum log_level)p->conf->log_level);
    crash_install(p->role->role, p->node.name, on_crash_note);
    if (!p->conf->cluster_core_dumps)
        prctl(PR_SET_DUMPABLE, 0);
    p->signal_fd = signals_open();
    raise_descriptor_limit();
    register_gauges(p);
    bool ok = proc_open(p, &error);
    if (ok)
        proc_run(p);
    else
        log_error("proc", "does not start: %s", error != NULL ? error : "see above");
    free(error);
    proc_close(p);
    close(p->signal_fd);
    return ok ? 0 : 1;
}

/* Everything that ends before a process exists: wrong arguments, --help, --version, --print-config. Returns
 * the exit code, or -1 to go on. */
static int proc_arguments(struct proc *p, int argc, char **argv)
{
    struct buf out = {0}, errors = {0};
    int code = -1;
    if (!args_parse(&p->args, argc, argv, &errors)) {
        code = 2;
    } else if (p->args.action == ARGS_ACTION_HELP) {
        args_usage(&out, p->role->role);
        code = 0;
    } else if (p->args.action == ARGS_ACTION_VERSION) {
        buf_addf(&out, "jackdaw-%s %s\n", p->role->role, JACKDAW_VERSION);
        code = 0;
    } else {
        p->conf = args_conf(&p->args, &errors);
        if (p->conf == NULL || !check_values(p->conf, &errors)) {
            buf_addf(&errors, "jackdaw-%s does not start: its configuration is wrong\n", p->role->role);
            code = 1;
        } else if (p->args.action == ARGS_ACTION_PRINT_CONFIG) {
            conf_write(p->conf, &out);
            code = 0;
        }
    }
    fputs(buf_cstr(&out), stdout);
    fputs(buf_cstr(&errors), stderr);
    buf_free(&out);
    buf_free(&errors);
    return code;
}

int proc_main(int argc, char **argv, const struct proc_role *role)
{
    struct proc *p = xcalloc(1, sizeof *p);
    p->role = role;
    p->signal_fd = -1;
    the_proc = p;
    int code = proc_arguments(p, argc, argv);
    if (code < 0)
        code = proc_start(p);
    the_proc = NULL;
    conf_free(p->conf);
    args_free(&p->args);
    free(p);
    return code;
}

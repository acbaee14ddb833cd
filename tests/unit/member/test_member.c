/* A real Redis and real processes: each child is one node of a cluster and shows its view in shared memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/bus/bus.h"
#include "common/member/member.h"
#include "common/redis/redis.h"
#include "common/ring/ring.h"

#define NODES        6
#define LEASE_MS     1500
#define HEARTBEAT_MS 100

/* What a child shows. */
struct view {
    volatile uint32_t epoch;
    volatile unsigned count;
    volatile uint64_t slots_hash; /* of the owners' names of all slots */
    volatile bool holds;
    volatile unsigned lost, back, links;
    volatile uint64_t lost_ms;
    volatile unsigned order; /* the parent's wish: 1 drain, 2 leave */
};

struct child {
    struct ring *ring;
    struct bus *bus;
    struct member *member;
    struct view *view;
};

static char dir[64];
static pid_t redis_pid;
static pid_t pids[NODES];
static struct view *views;

static const struct {
    const char *name, *role;
} cast[NODES] = {{"c2s-1", "c2s"},       {"c2s-2", "c2s"},       {"router-1", "router"},
                 {"router-2", "router"}, {"router-3", "router"}, {"s2s-1", "s2s"}};

/* ---- Redis */

static void redis_start(void)
{
    char socket_path[128];

    redis_pid = fork();
    if (redis_pid == 0) {
        int null = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(socket_path, sizeof socket_path, "%s/redis.sock", dir);
        dup2(null, 1);
        execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket_path, "--dir", dir,
               "--appendonly", "yes", (char *)NULL);
        _exit(127);
    }
}

static void end(pid_t *pid)
{
    if (*pid > 0) {
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

/* ---- a node */

static void on_frame(void *ctx, struct bus_peer *from, struct span frame)
{
    (void)ctx;
    (void)from;
    (void)frame;
}

static void on_up(void *ctx, struct bus_peer *peer)
{
    struct child *c = ctx;
    (void)peer;
    c->view->links++;
    bus_peer_set_data(peer, c->view);
}

static void on_suspect(void *ctx, struct bus_peer *peer, bool certain)
{
    struct child *c = ctx;
    member_report_dead(c->member, bus_peer_name(peer), bus_peer_incarnation(peer), certain);
}

static void on_gone(void *ctx, struct bus_peer *peer)
{
    struct child *c = ctx;
    (void)peer;
    c->view->links -= bus_peer_data(peer) != NULL; /* else it never came up */
}

static const struct bus_handler bus_events = {
    .frame = on_frame, .up = on_up, .suspect = on_suspect, .gone = on_gone, .room = on_up};

static void on_changed(void *ctx)
{
    struct child *c = ctx;
    uint64_t hash = 1469598103934665603u;
    unsigned count;

    for (uint16_t s = 0; s < MEMBER_SLOTS; s++) {
        const struct member_node *owner = member_owner(c->member, s);
        for (const char *p = owner != NULL ? owner->name : "-"; *p != '\0'; p++)
            hash = (hash ^ (uint64_t)*p) * 1099511628211u;
    }
    member_nodes(c->member, &count);
    c->view->slots_hash = hash;
    c->view->count = count;
    c->view->epoch = member_epoch(c->member);
}

static void on_lost(void *ctx)
{
    struct child *c = ctx;
    c->view->lost_ms = clock_mono_ms();
    c->view->lost++;
}

static void on_back(void *ctx)
{
    struct child *c = ctx;
    c->view->back++;
}

static void on_replaced(void *ctx)
{
    (void)ctx;
    _exit(7);
}

static const struct member_handler member_events = {
    .changed = on_changed, .lease_lost = on_lost, .lease_back = on_back, .replaced = on_replaced};

static void redis_state(void *ctx, bool up)
{
    (void)ctx;
    (void)up;
}

static void run_node(unsigned i, uint64_t incarnation, const char *name)
{
    struct child c = {.view = &views[i]};
    struct member_node self = {.incarnation = incarnation};
    char listen[128], url[128], *error;
    const char *why;
    unsigned obeyed = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(self.name, sizeof self.name, "%s", name);
    snprintf(self.role, sizeof self.role, "%s", cast[i].role);
    snprintf(listen, sizeof listen, "ipc://%s/%s", dir, name);
    snprintf(url, sizeof url, "unix://%s/redis.sock", dir);
    c.ring = ring_new(0, &why);
    c.bus = bus_new(
        c.ring,
        &(struct bus_config){
            .name = self.name, .incarnation = incarnation, .listen = listen, .heartbeat_ms = HEARTBEAT_MS},
        &bus_events, &c, &error);
    if (c.bus == NULL)
        _exit(2);
    snprintf(self.endpoint, sizeof self.endpoint, "%s", bus_endpoint(c.bus));
    struct redis *redis =
        redis_new(c.ring, &(struct redis_config){.url = url, .timeout_ms = 500}, redis_state, NULL, &error);
    if (redis == NULL)
        _exit(3);
    c.member = member_new(c.ring, redis, c.bus, &self, LEASE_MS, &member_events, &c);
    for (;;) {
        ring_turn(c.ring, 20);
        c.view->holds = member_holds_lease(c.member);
        if (c.view->order > obeyed) {
            obeyed = c.view->order;
            if (obeyed == 1)
                member_drain(c.member);
            else
                member_leave(c.member);
        }
        if (member_has_left(c.member))
            _exit(0);
    }
}

static void node_start(unsigned i, uint64_t incarnation)
{
    memset(&views[i], 0, sizeof views[i]);
    pids[i] = fork();
    if (pids[i] == 0)
        run_node(i, incarnation, cast[i].name);
}

/* ---- the parent */

/* All living nodes hold their lease and see the same count, epoch and owners; with all links when wanted. */
static bool agree(unsigned count)
{
    const struct view *first = NULL;

    for (unsigned i = 0; i < NODES; i++) {
        const struct view *v = &views[i];
        if (pids[i] == 0)
            continue;
        if (first == NULL)
            first = v;
        if (!v->holds || v->count != count || v->epoch != first->epoch || v->slots_hash != first->slots_hash)
            return false;
    }
    return first != NULL;
}

static bool linked(unsigned routers, unsigned others)
{
    for (unsigned i = 0; i < NODES; i++) {
        bool routes = strcmp(cast[i].role, "router") == 0;
        if (pids[i] != 0 && views[i].links != (routes ? routers - 1 + others : routers))
            return false;
    }
    return true;
}

static void show(void)
{
    for (unsigned i = 0; i < NODES; i++)
        fprintf(stderr, "%s pid=%d epoch=%u count=%u holds=%d lost=%u back=%u links=%u slots=%llx\n",
                cast[i].name, pids[i], views[i].epoch, views[i].count, views[i].holds, views[i].lost,
                views[i].back, views[i].links, (unsigned long long)views[i].slots_hash);
}

/* Waits; returns how long it took in ms. */
#define UNTIL(condition, limit_ms)                                             \
    ({                                                                         \
        uint64_t start_ = clock_mono_ms();                                     \
        bool met_;                                                             \
        while (!(met_ = (condition)) && clock_mono_ms() < start_ + (limit_ms)) \
            usleep(1000);                                                      \
        if (!met_) {                                                           \
            show();                                                            \
            fail_msg("not within %d ms: " #condition, (limit_ms));             \
        }                                                                      \
        clock_mono_ms() - start_;                                              \
    })

static void start_all(void)
{
    for (unsigned i = 0; i < NODES; i++)
        node_start(i, 100 + i);
    UNTIL(agree(NODES) && linked(3, 3), 5000);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/jd-member-XXXXXX");
    if (mkdtemp(dir) == NULL)
        return -1;
    views = mmap(NULL, NODES * sizeof *views, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    redis_start();
    return 0;
}

static void remove_all(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char name[512];

    while (d != NULL && (e = readdir(d)) != NULL) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        if (unlink(name) != 0)
            remove_all(name);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NODES; i++)
        end(&pids[i]);
    end(&redis_pid);
    munmap(views, NODES * sizeof *views);
    remove_all(dir);
    return 0;
}

static void test_everyone_agrees_through_join_drain_and_leave(void **state)
{
    uint64_t slots, full;
    (void)state;
    start_all();
    full = views[0].slots_hash;
    views[3].order = 1; /* router-2 drains: still a member, owner of nothing */
    UNTIL(agree(NODES) && views[0].slots_hash != full, 1000);
    slots = views[0].slots_hash;
    views[3].order = 2;
    UNTIL(waitpid(pids[3], NULL, WNOHANG) == pids[3], 1000);
    pids[3] = 0;
    UNTIL(agree(NODES - 1) && linked(2, 3), 1000);
    assert_int_equal(views[0].slots_hash, slots);
    node_start(3, 777);
    UNTIL(agree(NODES) && linked(3, 3), 3000);
    assert_int_equal(views[0].slots_hash, full); /* the name decides, not the incarnation */
    for (unsigned i = 0; i < NODES; i++)
        assert_int_equal(views[i].lost, 0);
}

static void test_killed_processes_are_noticed_at_once(void **state)
{
    (void)state;
    start_all();
    for (unsigned i = NODES; i-- > 1;) { /* until one is left: s2s, routers, c2s */
        uint64_t took;
        end(&pids[i]);
        took = UNTIL(agree(i), 3000);
        print_message("%s killed: all agree after %llu ms\n", cast[i].name, (unsigned long long)took);
        /* Who is linked with nobody any more is found by its lease. */
        assert_true(took < (i >= 2 ? 500 : 3000));
    }
    for (unsigned i = 0; i < NODES; i++)
        assert_int_equal(views[i].lost, 0);
}

static void test_killed_and_restarted_at_once(void **state)
{
    (void)state;
    start_all();
    end(&pids[2]);
    node_start(2, 4242);
    UNTIL(agree(NODES) && linked(3, 3), 3000);
    for (unsigned i = 0; i < NODES; i++)
        assert_int_equal(views[i].lost, 0);
}

static void test_stopped_process_is_replaced_and_comes_back_fenced(void **state)
{
    uint64_t took;
    (void)state;
    start_all();
    kill(pids[4], SIGSTOP);
    took = pids[4];
    pids[4] = 0;                   /* not asked while it sleeps */
    UNTIL(agree(NODES - 1), 3000); /* two neighbours find it silent */
    pids[4] = (pid_t)took;
    usleep(LEASE_MS * 1000); /* its lease has run out too */
    kill(pids[4], SIGCONT);
    UNTIL(agree(NODES) && linked(3, 3), 3000);
    assert_int_equal(views[4].lost, 1);
    assert_int_equal(views[4].back, 1);
}

static void test_redis_away_and_back(void **state)
{
    uint64_t gone_ms;
    (void)state;
    start_all();
    gone_ms = clock_mono_ms();
    end(&redis_pid);
    usleep(LEASE_MS / 2 * 1000);
    for (unsigned i = 0; i < NODES; i++)
        assert_true(views[i].holds); /* a short restart of Redis disturbs nobody */
    UNTIL(views[0].lost == 1 && views[1].lost == 1 && views[2].lost == 1 && views[3].lost == 1 &&
              views[4].lost == 1 && views[5].lost == 1,
          LEASE_MS);
    for (unsigned i = 0; i < NODES; i++) {
        assert_false(views[i].holds);
        assert_true(views[i].lost_ms - gone_ms < LEASE_MS);
    }
    redis_start();
    print_message("Redis back: all agree after %llu ms\n",
                  (unsigned long long)UNTIL(agree(NODES) && linked(3, 3), 5000));
    for (unsigned i = 0; i < NODES; i++)
        assert_int_equal(views[i].back, 1);
}

static void test_same_name_twice_ends_the_first(void **state)
{
    int status;
    pid_t first;
    (void)state;
    start_all();
    first = pids[1];
    node_start(1, 999); /* c2s-2 once more, by mistake */
    UNTIL(waitpid(first, &status, WNOHANG) == first, 3000);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    UNTIL(agree(NODES), 3000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_everyone_agrees_through_join_drain_and_leave),
        TEST(test_killed_processes_are_noticed_at_once),
        TEST(test_killed_and_restarted_at_once),
        TEST(test_stopped_process_is_replaced_and_comes_back_fenced),
        TEST(test_redis_away_and_back),
        TEST(test_same_name_twice_ends_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

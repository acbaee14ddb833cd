/* Times come from the process's CPU clock (nanoseconds, all threads, the dead ones too), memory from
 * smaps_rollup. The fixed piece of work is a chain of multiplications and dependent loads in 256 KiB, a mix
 * that slows down with the clock rate and with a busy sibling, as the server does. */
#include "bench/load/cpu.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/span.h"

/* What the work takes on the machine that the tables in README.md come from. */
#define REFERENCE_NS 760000.0
#define WORDS        32768
#define STEPS        100000
#define KEEP         1024

static void add(struct cpu_set *set, const char *name, size_t name_n, int pid)
{
    if (set->count == CPU_PROCESSES_MAX)
        return;
    struct cpu_process *p = &set->processes[set->count++];
    snprintf(p->name, sizeof p->name, "%.*s", (int)name_n, name);
    p->pid = pid;
}

static int read_pid(const char *path)
{
    FILE *f = fopen(path, "re");
    int pid = 0;
    if (f == NULL)
        return 0;
    if (fscanf(f, "%d", &pid) != 1)
        pid = 0;
    fclose(f);
    return pid;
}

bool cpu_add_dir(struct cpu_set *set, const char *dir)
{
    char *run = xasprintf("%s/run", dir);
    DIR *d = opendir(run);
    unsigned before = set->count;
    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot == NULL || strcmp(dot, ".pid") != 0 || strncmp(e->d_name, "supervisor", 10) == 0)
            continue;
        char *path = xasprintf("%s/%s", run, e->d_name);
        int pid = read_pid(path);
        if (pid > 0)
            add(set, e->d_name, (size_t)(dot - e->d_name), pid);
        free(path);
    }
    if (d != NULL)
        closedir(d);
    free(run);
    return set->count > before;
}

bool cpu_add_list(struct cpu_set *set, const char *list)
{
    struct span rest = span_of(list);
    while (rest.n > 0) {
        struct span item = span_sub(rest, 0, span_index(rest, ','));
        rest = span_sub(rest, item.n + 1, rest.n);
        size_t equals = span_index(item, '=');
        struct span name = span_sub(item, 0, equals);
        struct span number = equals < item.n ? span_sub(item, equals + 1, item.n) : item;
        uint64_t pid;
        if (!span_to_u64(number, INT32_MAX, &pid) || pid == 0)
            return false;
        add(set, name.p, name.n, (int)pid);
    }
    return set->count > 0;
}

static uint64_t read_pss_bytes(int pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Pss: %llu", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib * 1024;
}

void cpu_read(const struct cpu_set *set, bool with_memory, struct cpu_sample *out)
{
    *out = (struct cpu_sample){.wall_ns = clock_mono_ns()};
    for (unsigned i = 0; i < set->count; i++) {
        clockid_t id;
        struct timespec t = {0};
        if (clock_getcpuclockid(set->processes[i].pid, &id) == 0)
            clock_gettime(id, &t);
        out->ns[i] = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
        out->total_ns += out->ns[i];
        if (with_memory)
            out->total_pss_bytes += out->pss_bytes[i] = read_pss_bytes(set->processes[i].pid);
    }
}

/* ---- calibration ---- */

static struct {
    pthread_mutex_t lock;
    uint32_t words[WORDS];
    double ns[KEEP];
    unsigned count;
    uint64_t sum;
} cal = {.lock = PTHREAD_MUTEX_INITIALIZER};

static double work(void)
{
    struct timespec a, b;
    uint64_t x = 88172645463325252u;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
    for (unsigned i = 0; i < STEPS; i++)
        x = (x ^ cal.words[(x >> 40) % WORDS]) * 6364136223846793005u + 1442695040888963407u;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
    cal.sum += x;
    return (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
}

static void *calibrate(void *unused)
{
    (void)unused;
    for (;;) {
        double ns = work();
        pthread_mutex_lock(&cal.lock);
        cal.ns[cal.count++ % KEEP] = ns;
        pthread_mutex_unlock(&cal.lock);
        nanosleep(&(struct timespec){0, 250000000}, NULL);
    }
    return NULL;
}

void cpu_calibrate_start(void)
{
    pthread_t thread;
    for (unsigned i = 0; i < WORDS; i++)
        cal.words[i] = i * 2654435761u;
    if (pthread_create(&thread, NULL, calibrate, NULL) == 0)
        pthread_detach(thread);
}

void cpu_calibrate_reset(void)
{
    pthread_mutex_lock(&cal.lock);
    cal.count = 0;
    pthread_mutex_unlock(&cal.lock);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double cpu_calibrate_factor(void)
{
    double ns[KEEP];
    pthread_mutex_lock(&cal.lock);
    unsigned n = MIN(cal.count, KEEP);
    memcpy(ns, cal.ns, n * sizeof ns[0]);
    pthread_mutex_unlock(&cal.lock);
    if (n == 0)
        return 0;
    qsort(ns, n, sizeof ns[0], by_value);
    return REFERENCE_NS / ns[n / 2];
}

/* What the server's processes use: processor time and memory, from the kernel. And how fast a processor
 * second is right now: a virtual processor's speed can change by half within seconds. */
#ifndef JACKDAW_BENCH_CPU_H
#define JACKDAW_BENCH_CPU_H

#include "common/base/base.h"

#define CPU_PROCESSES_MAX 64

struct cpu_process {
    char name[32];
    int pid;
};

struct cpu_set {
    struct cpu_process processes[CPU_PROCESSES_MAX];
    unsigned count;
};

struct cpu_sample {
    uint64_t ns[CPU_PROCESSES_MAX];        /* user and system time, all threads */
    uint64_t pss_bytes[CPU_PROCESSES_MAX]; /* proportional set size */
    uint64_t total_ns;
    uint64_t total_pss_bytes;
    uint64_t wall_ns;
};

/* Adds the processes of DIR/run/NAME.pid, but for the supervisor. False: none there. */
bool cpu_add_dir(struct cpu_set *set, const char *dir);

/* Adds "PID,PID,…" or "NAME=PID,…". False: not such a list. */
bool cpu_add_list(struct cpu_set *set, const char *list);

/* Reads what they have used. Memory costs milliseconds to read: only with_memory. A process that is gone
 * counts 0. */
void cpu_read(const struct cpu_set *set, bool with_memory, struct cpu_sample *out);

/* Starts the calibration thread: four times a second it measures a fixed piece of work. */
void cpu_calibrate_start(void);

/* Forgets what was measured so far; the reading: CPU seconds of the reference machine that one CPU second is
 * worth now, the median since the reset (0 = too early). */
void cpu_calibrate_reset(void);
double cpu_calibrate_factor(void);

#endif

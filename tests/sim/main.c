/* sim --seed N [--verbose] [--frames] [--debug] | --seeds FROM COUNT [--expect-failure]; --without
 * FAULT,FAULT… */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/hash.h"
#include "common/log/log.h"
#include "tests/sim/sim.h"

static int usage(void)
{
    fprintf(stderr,
            "usage: sim --seed N [--verbose] [--frames] [--debug] | --seeds FROM COUNT [--expect-failure]\n"
            "     --without store-full,cut-link,… leaves kinds of fault out (fault.c names them)\n");
    return 2;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    uint64_t from = 0, count = 0;
    bool verbose = false, expect_failure = false, debug = false, frames = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            from = strtoull(argv[++i], NULL, 10);
            count = 1;
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
            from = strtoull(argv[++i], NULL, 10);
            count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--without") == 0 && i + 1 < argc) {
            if (!fault_spare(argv[++i]))
                return usage();
        } else if (strcmp(argv[i], "--verbose") == 0) {
            verbose = true;
        } else if (strcmp(argv[i], "--debug") == 0) {
            verbose = debug = true;
        } else if (strcmp(argv[i], "--frames") == 0) {
            verbose = frames = true;
        } else if (strcmp(argv[i], "--expect-failure") == 0) {
            expect_failure = true;
        } else {
            return usage();
        }
    }
    if (count == 0)
        return usage();
    /* The key of the hash tables is drawn once a process: always the same one. */
    rng_seed(&w.rng, 1);
    hash_u64(1);
    log_set_level(debug ? LOG_LEVEL_DEBUG : verbose ? LOG_LEVEL_INFO : (enum log_level) - 1);
    double begin = seconds();
    uint64_t failures = 0, events = 0, ran = 0;
    for (uint64_t seed = from; seed < from + count; seed++) {
        ran++;
        bool ok = sim_run(seed, verbose, frames);
        events += w.events;
        if (!ok) {
            failures++;
            printf("seed %llu: %s\n", (unsigned long long)seed, w.why);
            fflush(stdout);
            if (expect_failure)
                break;
        }
    }
    printf("%llu seeds, %llu failed, %llu events, %.1f s\n", (unsigned long long)ran,
           (unsigned long long)failures, (unsigned long long)events, seconds() - begin);
    return expect_failure ? failures == 0 : failures > 0;
}

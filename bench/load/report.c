/* The result as text for people or JSON for scripts. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/load/scenario.h"
#include "common/base/text.h"

static double cpu_s(const struct bench *b)
{
    return (double)(b->to.total_ns - b->from.total_ns) / 1e9;
}

static double wall_s(const struct bench *b)
{
    return (double)(b->to.wall_ns - b->from.wall_ns) / 1e9;
}

static double per(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
static const char *const quantile_names[] = {"p50_us", "p90_us", "p99_us", "p999_us"};

static void json_series(struct json *j, const char *key, const struct series *s)
{
    json_open(j, key, '[');
    for (unsigned i = 0; i < s->count; i++) {
        const struct stretch *at = &s->items[i];
        json_open(j, NULL, '{');
        json_double(j, "end_s", at->end_s);
        json_u64(j, "done", at->done);
        json_u64(j, "p50_us", at->p50_us);
        json_u64(j, "p90_us", at->p90_us);
        json_u64(j, "p99_us", at->p99_us);
        json_u64(j, "max_us", at->max_us);
        json_double(j, "cpu_s", at->cpu_s);
        json_close(j, '}');
    }
    json_close(j, ']');
}

static void print_json(const struct bench *b)
{
    struct buf out = {0};
    struct json j = {.out = &out};
    json_open(&j, NULL, '{');
    json_text(&j, "scenario", span_of(b->scenario->name));
    json_text(&j, "unit", span_of(b->scenario->unit));
    json_u64(&j, "clients", b->args.clients);
    json_u64(&j, "online", b->online);
    json_u64(&j, "window", b->args.window);
    json_double(&j, "rate_offered", b->args.rate);
    json_u64(&j, "measured", b->measured);
    json_double(&j, "seconds", wall_s(b));
    json_double(&j, "per_second", per((double)b->measured, wall_s(b)));
    json_double(&j, "server_cpu_s", cpu_s(b));
    json_double(&j, "per_cpu_second", per((double)b->measured, cpu_s(b)));
    json_double(&j, "calibration", b->factor);
    json_double(&j, "per_calibrated_cpu_second", per((double)b->measured, cpu_s(b) * b->factor));
    for (unsigned i = 0; i < ARRAY_LEN(quantiles); i++)
        json_u64(&j, quantile_names[i], hist_quantile_us(&b->latency, quantiles[i]));
    json_u64(&j, "max_us", b->latency.max_us);
    json_u64(&j, "failed", b->failed);
    json_u64(&j, "lost", b->lost);
    json_u64(&j, "duplicated", b->duplicated);
    json_u64(&j, "reordered", b->reordered);
    json_open(&j, "processes", '[');
    for (unsigned i = 0; i < b->args.servers.count; i++) {
        json_open(&j, NULL, '{');
        json_text(&j, "name", span_of(b->args.servers.processes[i].name));
        json_double(&j, "cpu_s", (double)(b->to.ns[i] - b->from.ns[i]) / 1e9);
        json_u64(&j, "pss_before", b->before.pss_bytes[i]);
        json_u64(&j, "pss_online", b->idle.pss_bytes[i]);
        json_u64(&j, "pss_after", b->to.pss_bytes[i]);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_double(&j, "bytes_per_session",
                per((double)b->idle.total_pss_bytes - (double)b->before.total_pss_bytes, b->online));
    json_series(&j, "seconds", &b->seconds);
    json_series(&j, "minutes", &b->minutes);
    json_text(&j, "note", span_of(b->note));
    json_text(&j, "trouble", span_of(b->trouble));
    json_close(&j, '}');
    printf("%s\n", buf_cstr(&out));
    buf_free(&out);
}

static void print_processes(const struct bench *b)
{
    double seconds = cpu_s(b);
    printf("  %-14s %9s %6s %12s %12s %12s %12s\n", "process", "CPU s", "share", "PSS before", "online",
           "after", "per session");
    for (unsigned i = 0; i < b->args.servers.count; i++) {
        double used = (double)(b->to.ns[i] - b->from.ns[i]) / 1e9;
        double grown = (double)b->idle.pss_bytes[i] - (double)b->before.pss_bytes[i];
        printf("  %-14s %9.3f %5.1f%% %8.1f MiB %8.1f MiB %8.1f MiB %8.2f KiB\n",
               b->args.servers.processes[i].name, used, 100 * per(used, seconds),
               (double)b->before.pss_bytes[i] / 1048576, (double)b->idle.pss_bytes[i] / 1048576,
               (double)b->to.pss_bytes[i] / 1048576, per(grown, b->online) / 1024);
    }
    printf("  %-14s %9.3f %35s %27.2f KiB\n", "all", seconds, "",
           per((double)b->idle.total_pss_bytes - (double)b->before.total_pss_bytes, b->online) / 1024);
}

static void print_text(const struct bench *b)
{
    printf("%s: %u clients, window %u", b->scenario->name, b->args.clients, b->args.window);
    if (b->args.rate > 0)
        printf(", %.0f %s/s offered", b->args.rate, b->scenario->unit);
    printf("; %u online, %u failed\n", b->online, b->failed);
    if (!b->scenario->idle) {
        printf("  %.0f %s/s over %.1f s; %.0f per server CPU second", per((double)b->measured, wall_s(b)),
               b->scenario->unit, wall_s(b), per((double)b->measured, cpu_s(b)));
        printf(" (%.0f calibrated, factor %.2f); %.2f us each\n",
               per((double)b->measured, cpu_s(b) * b->factor), b->factor,
               per(cpu_s(b) * 1e6, (double)b->measured));
    }
    if (b->latency.count > 0) {
        printf("  latency ms:");
        for (unsigned i = 0; i < ARRAY_LEN(quantiles); i++)
            printf(" p%g %.2f", quantiles[i] * 100,
                   (double)hist_quantile_us(&b->latency, quantiles[i]) / 1000);
        printf(" max %.2f\n", (double)b->latency.max_us / 1000);
    }
    printf("  lost %llu, duplicated %llu, reordered %llu\n", (unsigned long long)b->lost,
           (unsigned long long)b->duplicated, (unsigned long long)b->reordered);
    if (b->note != NULL)
        printf("  %s\n", b->note);
    if (b->args.servers.count > 0)
        print_processes(b);
    if (b->trouble != NULL)
        printf("  first trouble: %s\n", b->trouble);
}

int report_print(const struct bench *b)
{
    if (b->args.json)
        print_json(b);
    else
        print_text(b);
    return b->failed + b->lost + b->duplicated + b->reordered > 0 ? 1 : 0;
}

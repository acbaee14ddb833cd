#include "common/bus/stats.h"

#include "common/bus/link.h"
#include "common/log/log.h"

/* So that name and help of a family are written once. */
#define COUNTER(...) STAT_COUNTER(__VA_ARGS__)
#define FRAMES       "jackdaw_bus_frames_total", "Frames between processes"
#define BATCHES      "jackdaw_bus_batches_total", "Batches of frames, one message each, without repetitions"
#define BYTES        "jackdaw_bus_bytes_total", "Bytes in batches"
#define DROPPED \
    "jackdaw_bus_dropped_total", "Messages from other processes that were dropped; the link recovers"

struct stat_counter bus_stat_frames_in = COUNTER(FRAMES, "direction=\"in\"");
struct stat_counter bus_stat_frames_out = COUNTER(FRAMES, "direction=\"out\"");
struct stat_counter bus_stat_batches_in = COUNTER(BATCHES, "direction=\"in\"");
struct stat_counter bus_stat_batches_out = COUNTER(BATCHES, "direction=\"out\"");
struct stat_counter bus_stat_bytes_in = COUNTER(BYTES, "direction=\"in\"");
struct stat_counter bus_stat_bytes_out = COUNTER(BYTES, "direction=\"out\"");
struct stat_counter bus_stat_resends =
    STAT_COUNTER("jackdaw_bus_resends_total", "Batches sent again after a reconnect or a gap", NULL);
struct stat_counter bus_stat_stalls =
    STAT_COUNTER("jackdaw_bus_stalls_total", "Times a link's window filled up (back-pressure)", NULL);
struct stat_counter bus_stat_refused =
    STAT_COUNTER("jackdaw_bus_refused_total", "Connections between processes ended at the handshake", NULL);
static struct stat_counter bus_stat_too_large =
    STAT_COUNTER("jackdaw_bus_frames_too_large_total",
                 "Frames that were refused because no link takes one so large", NULL);
static struct stat_counter bus_stat_duplicate = COUNTER(DROPPED, "reason=\"duplicate\"");
static struct stat_counter bus_stat_gap = COUNTER(DROPPED, "reason=\"gap\"");
static struct stat_counter bus_stat_stale = COUNTER(DROPPED, "reason=\"stale\"");
static struct stat_counter bus_stat_malformed = COUNTER(DROPPED, "reason=\"malformed\"");
struct stat_gauge bus_stat_links = STAT_GAUGE("jackdaw_bus_links", "Links that are up", NULL);
static struct stat_gauge unacked_bytes =
    STAT_GAUGE("jackdaw_bus_unacknowledged_bytes", "Bytes queued or sent and not yet acknowledged", NULL);

void bus_stats_register(int64_t (*unacked)(void *ctx), void *ctx)
{
    struct stat_meta *all[] = {
        &bus_stat_frames_in.meta,   &bus_stat_frames_out.meta, &bus_stat_batches_in.meta,
        &bus_stat_batches_out.meta, &bus_stat_bytes_in.meta,   &bus_stat_bytes_out.meta,
        &bus_stat_resends.meta,     &bus_stat_stalls.meta,     &bus_stat_duplicate.meta,
        &bus_stat_gap.meta,         &bus_stat_stale.meta,      &bus_stat_malformed.meta,
        &bus_stat_refused.meta,     &bus_stat_links.meta,      &unacked_bytes.meta,
        &bus_stat_too_large.meta};

    unacked_bytes.read = unacked;
    unacked_bytes.ctx = ctx;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        stat_register(all[i]);
}

void bus_stats_forget(void *ctx)
{
    if (unacked_bytes.ctx == ctx)
        unacked_bytes.read = NULL;
}

void bus_stats_dropped(unsigned events, const char *peer)
{
    if ((events & LINK_DUPLICATE) != 0)
        stat_add(&bus_stat_duplicate, 1);
    if ((events & LINK_GAP) != 0)
        stat_add(&bus_stat_gap, 1);
    if ((events & LINK_STALE) != 0)
        stat_add(&bus_stat_stale, 1);
    if ((events & LINK_BAD) != 0) {
        stat_add(&bus_stat_malformed, 1);
        log_warn("bus", "malformed message dropped peer=%s: are all nodes of the same release?",
                 peer != NULL ? peer : "?");
    }
}

void bus_stats_too_large(size_t bytes, const char *peer)
{
    stat_add(&bus_stat_too_large, 1);
    log_error("bus", "a frame is too large for a link and was refused peer=%s bytes=%zu", peer, bytes);
}

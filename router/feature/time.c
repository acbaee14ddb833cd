/* Entity time (XEP-0202): the host's, in UTC. */
#include "common/base/clock.h"
#include "router/feature.h"

static enum verdict on_get(struct task *t, enum wake wake)
{
    (void)wake;
    char utc[32];
    struct buf out = {0};
    clock_format_utc(t->core->out.wall_ms(t->core->out.ctx), utc);
    buf_addf(&out, "<time xmlns='" NS_TIME "'><tzo>+00:00</tzo><utc>%s</utc></time>", utc);
    task_result(t, buf_span(&out));
    buf_free(&out);
    return DONE;
}

const struct feature feature_time = {
    .name = "time",
    .xeps = {"0202 2.0"},
    .disco_host = {NS_TIME},
    .iqs = {{STANZA_GET, IQ_TO_HOST, NS_TIME, "time", on_get}},
};

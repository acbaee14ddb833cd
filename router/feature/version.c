/* Software version (XEP-0092). The operating system stays our business (§4 there). */
#include "router/feature.h"

static enum verdict on_get(struct task *t, enum wake wake)
{
    (void)wake;
    task_result(t, SPAN("<query xmlns='" NS_VERSION "'><name>Jackdaw</name><version>" JACKDAW_VERSION
                        "</version></query>"));
    return DONE;
}

const struct feature feature_version = {
    .name = "version",
    .xeps = {"0092 1.1"},
    .disco_host = {NS_VERSION},
    .iqs = {{STANZA_GET, IQ_TO_HOST, NS_VERSION, "query", on_get}},
};

/* XMPP Ping (XEP-0199): the smallest complete feature. */
#include "router/feature.h"

static enum verdict on_ping(struct task *t, enum wake wake)
{
    (void)wake;
    task_result(t, (struct span){NULL, 0});
    return DONE;
}

const struct feature feature_ping = {
    .name = "ping",
    .xeps = {"0199 2.0.1"},
    .disco_host = {NS_PING},
    .disco_account = {NS_PING},
    .iqs = {{STANZA_GET, IQ_TO_ACCOUNT, NS_PING, "ping", on_ping},
            {STANZA_GET, IQ_TO_HOST, NS_PING, "ping", on_ping}},
};

/* The session request of RFC 3921: long without meaning, but old clients wait for its result (RFC 6121
 * appendix E). */
#include "router/feature.h"

static enum verdict on_set(struct task *t, enum wake wake)
{
    (void)wake;
    task_result(t, (struct span){NULL, 0});
    return DONE;
}

const struct feature feature_session = {
    .name = "session",
    .rfcs = {"3921 3"},
    .iqs = {{STANZA_SET, IQ_TO_ACCOUNT, NS_SESSION, "session", on_set},
            {STANZA_SET, IQ_TO_HOST, NS_SESSION, "session", on_set}},
};

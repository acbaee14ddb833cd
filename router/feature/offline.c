/* Offline storage (XEP-0160): told to clients here; deliver.c and mailbox.c do it. */
#include "router/feature.h"

const struct feature feature_offline = {
    .name = "offline",
    .xeps = {"0160 1.0.1"},
    .disco_host = {"msgoffline"},
};

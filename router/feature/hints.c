/* Message processing hints (XEP-0334): told to clients here; deliver.c reads no-store and store. */
#include "router/feature.h"

const struct feature feature_hints = {
    .name = "hints",
    .xeps = {"0334 0.4.0"},
    .disco_host = {NS_HINTS},
    .disco_account = {NS_HINTS},
};

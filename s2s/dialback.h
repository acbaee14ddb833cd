/* Dialback keys (XEP-0220, made by XEP-0185): any process of the cluster can check what another one has sent,
 * as they share the secret. No I/O. */
#ifndef JACKDAW_S2S_DIALBACK_H
#define JACKDAW_S2S_DIALBACK_H

#include "common/base/span.h"

#define NS_DIALBACK_FEATURE "urn:xmpp:features:dialback"

/* The key with which `originating` proves itself to `receiving` on the stream of that id (64 hex digits). */
void dialback_key(struct span secret, struct span receiving, struct span originating, struct span stream_id,
                  char out[65]);

/* True when key is the one that dialback_key makes. */
bool dialback_check(struct span secret, struct span receiving, struct span originating, struct span stream_id,
                    struct span key);

#endif

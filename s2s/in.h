/* An incoming stream of another server. */
#ifndef JACKDAW_S2S_IN_H
#define JACKDAW_S2S_IN_H

#include "common/base/span.h"

struct s2s;

enum in_verdict { IN_VALID, IN_INVALID, IN_UNVERIFIED };

/* Takes over an accepted socket; tls: it starts with TLS. */
void in_accept(struct s2s *s, int fd, bool tls);

/* What the authoritative server says about a key of the stream with that sid. */
void in_verified(struct s2s *s, uint64_t sid, struct span local, struct span remote, enum in_verdict verdict);

#endif

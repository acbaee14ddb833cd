/* SRV records (RFC 2782): reading them and the order in which to try them. No I/O. */
#ifndef JACKDAW_S2S_SRV_H
#define JACKDAW_S2S_SRV_H

#include "common/base/random.h"
#include "common/base/span.h"

struct srv {
    uint16_t priority, weight, port;
    bool tls;       /* of _xmpps-server: direct TLS (XEP-0368) */
    bool secure;    /* proven by DNSSEC */
    char host[256]; /* as text, without the final dot; empty = "." (the service is not there) */
};

/* Reads one record's data as on the wire. False when it is malformed. */
bool srv_parse(struct span rdata, bool tls, struct srv *out);

/* A certificate's record (RFC 6698). */
struct tlsa {
    uint8_t usage, selector, matching;
    uint8_t n;
    char data[64]; /* a hash: whole certificates in DNS are not looked at */
};

/* Reads a TLSA record's data. False when it is malformed or none of a hash. */
bool srv_parse_tlsa(struct span rdata, struct tlsa *out);

/* Puts records in the order of RFC 2782: by priority, within one by chance in proportion to the weights. */
void srv_order(struct srv *records, size_t count, struct rng *rng);

#endif

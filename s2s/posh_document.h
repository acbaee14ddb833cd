/* The documents of POSH (RFC 7711 §3): what a domain says over HTTPS about its servers' certificates. No I/O.
 * Owns jansson. */
#ifndef JACKDAW_S2S_POSH_DOCUMENT_H
#define JACKDAW_S2S_POSH_DOCUMENT_H

#include "common/base/span.h"

#define POSH_FINGERPRINTS_MAX 16

/* A certificate that the domain names: one hash of it is enough. */
struct posh_fingerprint {
    uint8_t n; /* 32: SHA-256, 48: SHA-384, 64: SHA-512 */
    uint8_t hash[64];
};

struct posh_document {
    char *url;          /* a reference: where the fingerprints are (§3.2); NULL = they are here */
    uint64_t expires_s; /* never 0 */
    unsigned count;     /* of fingerprints; more than POSH_FINGERPRINTS_MAX are not looked at */
    struct posh_fingerprint fingerprints[POSH_FINGERPRINTS_MAX];
};

/* Reads a document. False with *why set (static): it is malformed, has neither or both of "url" and
 * "fingerprints", says expires 0, or no hash in it is one that we know. *out is freed by
 * posh_document_clear. */
bool posh_document_parse(struct span text, struct posh_document *out, const char **why);

/* Frees what it holds; it is empty afterwards. */
void posh_document_clear(struct posh_document *d);

#endif

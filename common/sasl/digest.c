/* The cryptography of SCRAM, by libnettle's tables of hashes and MACs. */
#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/nettle-meta.h>
#include <nettle/pbkdf2.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>

#include "common/sasl/internal.h"

static const struct nettle_hash *const hashes[] = {&nettle_sha1, &nettle_sha256, &nettle_sha512};
static const struct nettle_mac *const macs[] = {&nettle_hmac_sha1, &nettle_hmac_sha256, &nettle_hmac_sha512};

union any_context {
    struct sha1_ctx sha1;
    struct sha256_ctx sha256;
    struct sha512_ctx sha512;
    struct hmac_sha1_ctx hmac_sha1;
    struct hmac_sha256_ctx hmac_sha256;
    struct hmac_sha512_ctx hmac_sha512;
};

static const uint8_t *bytes(struct span s)
{
    return (const uint8_t *)s.p;
}

size_t digest_size(enum digest d)
{
    return hashes[d]->digest_size;
}

void digest_hash(enum digest d, struct span text, uint8_t *out)
{
    union any_context ctx;
    hashes[d]->init(&ctx);
    hashes[d]->update(&ctx, text.n, bytes(text));
    hashes[d]->digest(&ctx, hashes[d]->digest_size, out);
}

/* libnettle wants keys of the MAC's own size here, so longer or shorter ones go by its sized functions. */
static void set_key(enum digest d, union any_context *ctx, struct span key)
{
    switch (d) {
    case DIGEST_SHA1:
        hmac_sha1_set_key(&ctx->hmac_sha1, key.n, bytes(key));
        break;
    case DIGEST_SHA256:
        hmac_sha256_set_key(&ctx->hmac_sha256, key.n, bytes(key));
        break;
    case DIGEST_SHA512:
        hmac_sha512_set_key(&ctx->hmac_sha512, key.n, bytes(key));
        break;
    }
}

void digest_hmac(enum digest d, struct span key, struct span text, uint8_t *out)
{
    union any_context ctx;
    set_key(d, &ctx, key);
    macs[d]->update(&ctx, text.n, bytes(text));
    macs[d]->digest(&ctx, macs[d]->digest_size, out);
    digest_wipe(&ctx, sizeof ctx);
}

void digest_stretch(enum digest d, struct span password, struct span salt, uint32_t iterations, uint8_t *out)
{
    union any_context ctx;
    set_key(d, &ctx, password);
    pbkdf2(&ctx, macs[d]->update, macs[d]->digest, macs[d]->digest_size, iterations, salt.n, bytes(salt),
           macs[d]->digest_size, out);
    digest_wipe(&ctx, sizeof ctx);
}

void digest_keys(enum digest d, const uint8_t *salted, uint8_t *stored, uint8_t *server)
{
    uint8_t client[DIGEST_MAX_BYTES];
    struct span key = span_make(salted, digest_size(d));
    digest_hmac(d, key, SPAN("Client Key"), client);
    digest_hash(d, span_make(client, digest_size(d)), stored);
    digest_hmac(d, key, SPAN("Server Key"), server);
    digest_wipe(client, sizeof client);
}

bool digest_equal(const void *a, const void *b, size_t n)
{
    return memeql_sec(a, b, n) == 1;
}

void digest_wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}

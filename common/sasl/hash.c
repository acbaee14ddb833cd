#include "common/sasl/hash.h"

#include "common/sasl/internal.h"

static void write_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

void hash_sha1(struct span text, uint8_t out[20])
{
    digest_hash(DIGEST_SHA1, text, out);
}

void hash_sha1_hex(struct span text, char out[41])
{
    uint8_t sum[20];
    digest_hash(DIGEST_SHA1, text, sum);
    write_hex(sum, sizeof sum, out);
}

void hash_sha256_hex(struct span text, char out[65])
{
    uint8_t sum[32];
    digest_hash(DIGEST_SHA256, text, sum);
    write_hex(sum, sizeof sum, out);
}

void hash_hmac_sha256_hex(struct span key, struct span text, char out[65])
{
    uint8_t sum[32];
    digest_hmac(DIGEST_SHA256, key, text, sum);
    write_hex(sum, sizeof sum, out);
}

bool hash_equal(struct span a, struct span b)
{
    return a.n == b.n && digest_equal(a.p, b.p, a.n);
}

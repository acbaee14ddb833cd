/* Stored keys: made from a password, written to and read from the text of RFC 5803, one entry per hash:
 *
 *   SCRAM-SHA-1$10000:SALT$STOREDKEY:SERVERKEY SCRAM-SHA-256$... SCRAM-SHA-512$...
 *
 * with base64 inside. All three have the same salt and iteration count. */
#include <stdlib.h>

#include "common/base/random.h"
#include "common/base/text.h"
#include "common/sasl/internal.h"

static const char *const entry_names[] = {"SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"};

static const size_t stored_at[] = {offsetof(struct sasl_keys, stored_sha1),
                                   offsetof(struct sasl_keys, stored_sha256),
                                   offsetof(struct sasl_keys, stored_sha512)};
static const size_t server_at[] = {offsetof(struct sasl_keys, server_sha1),
                                   offsetof(struct sasl_keys, server_sha256),
                                   offsetof(struct sasl_keys, server_sha512)};

const uint8_t *keys_stored(const struct sasl_keys *k, enum digest d)
{
    return (const uint8_t *)k + stored_at[d];
}

const uint8_t *keys_server(const struct sasl_keys *k, enum digest d)
{
    return (const uint8_t *)k + server_at[d];
}

bool sasl_keys_derive(struct span password, uint32_t iterations, struct sasl_keys *out)
{
    char *prepared = simple_saslprep(password);
    if (prepared == NULL || iterations == 0 || iterations > SASL_ITERATIONS_MAX) {
        free(prepared);
        return false;
    }
    memset(out, 0, sizeof *out);
    out->iterations = iterations;
    random_bytes(out->salt, sizeof out->salt);
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        uint8_t salted[DIGEST_MAX_BYTES];
        digest_stretch(d, span_of(prepared), span_make(out->salt, sizeof out->salt), iterations, salted);
        digest_keys(d, salted, (uint8_t *)out + stored_at[d], (uint8_t *)out + server_at[d]);
        digest_wipe(salted, sizeof salted);
    }
    digest_wipe(prepared, strlen(prepared));
    free(prepared);
    return true;
}

void sasl_keys_write(const struct sasl_keys *keys, struct buf *out)
{
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        size_t n = digest_size(d);
        buf_addf(out, "%s%s$%u:", d > 0 ? " " : "", entry_names[d], keys->iterations);
        base64_add(out, span_make(keys->salt, sizeof keys->salt));
        buf_add_char(out, '$');
        base64_add(out, span_make(keys_stored(keys, d), n));
        buf_add_char(out, ':');
        base64_add(out, span_make(keys_server(keys, d), n));
    }
}

/* Cuts text up to the mark (or the end, mark 0) off the front of *rest. False when the mark is missing. */
static bool cut(struct span *rest, char mark, struct span *piece)
{
    size_t at = mark != 0 ? span_index(*rest, mark) : rest->n;
    if (mark != 0 && at == rest->n)
        return false;
    *piece = span_sub(*rest, 0, at);
    *rest = span_sub(*rest, at + (mark != 0), rest->n);
    return true;
}

static bool decode_exactly(struct span text, uint8_t *out, size_t n)
{
    struct buf plain = {0};
    bool good = base64_decode(&plain, text) && plain.n == n;
    if (good)
        memcpy(out, plain.p, n);
    buf_free(&plain);
    return good;
}

static bool parse_entry(struct span *rest, enum digest d, struct sasl_keys *k)
{
    struct span name, iterations, salt, stored, server;
    uint64_t count = 0;
    uint8_t salt_bytes[sizeof k->salt];
    if (!cut(rest, '$', &name) || !cut(rest, ':', &iterations) || !cut(rest, '$', &salt) ||
        !cut(rest, ':', &stored) || !cut(rest, d < DIGEST_SHA512 ? ' ' : 0, &server) ||
        !span_is(name, entry_names[d]) || !span_to_u64(iterations, SASL_ITERATIONS_MAX, &count) ||
        count == 0 || !decode_exactly(salt, salt_bytes, sizeof salt_bytes) ||
        !decode_exactly(stored, (uint8_t *)k + stored_at[d], digest_size(d)) ||
        !decode_exactly(server, (uint8_t *)k + server_at[d], digest_size(d)))
        return false;
    if (d > 0 && (k->iterations != count || memcmp(k->salt, salt_bytes, sizeof salt_bytes) != 0))
        return false;
    k->iterations = (uint32_t)count;
    memcpy(k->salt, salt_bytes, sizeof salt_bytes);
    return true;
}

bool sasl_keys_parse(struct span text, struct sasl_keys *out)
{
    struct sasl_keys k = {0};
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++)
        if (!parse_entry(&text, d, &k))
            return false;
    *out = k;
    return true;
}

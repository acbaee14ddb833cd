#include "s2s/dialback.h"

#include "common/base/buf.h"
#include "common/sasl/hash.h"

void dialback_key(struct span secret, struct span receiving, struct span originating, struct span stream_id,
                  char out[65])
{
    char hashed[65];
    struct buf text = {0};
    hash_sha256_hex(secret, hashed);
    buf_add_span(&text, receiving);
    buf_add_char(&text, ' ');
    buf_add_span(&text, originating);
    buf_add_char(&text, ' ');
    buf_add_span(&text, stream_id);
    hash_hmac_sha256_hex(span_of(hashed), buf_span(&text), out);
    buf_free(&text);
}

bool dialback_check(struct span secret, struct span receiving, struct span originating, struct span stream_id,
                    struct span key)
{
    char right[65];
    dialback_key(secret, receiving, originating, stream_id, right);
    return secret.n > 0 && hash_equal(span_of(right), key);
}

/* Any bytes through the parsers of base: what a decoder takes must encode to the same text again. */
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span in = span_make(data, size);
    struct buf raw = {0}, text = {0};
    uint64_t u, ms, again;
    int64_t i;
    char utc[32];

    if (base64_decode(&raw, in)) {
        base64_add(&text, buf_span(&raw));
        CHECK(span_eq(buf_span(&text), in));
    }
    buf_clear(&raw);
    buf_clear(&text);
    if (hex_decode(&raw, in)) {
        hex_add(&text, buf_span(&raw));
        CHECK(text.n == in.n);
    }
    buf_clear(&text);
    if (span_to_u64(in, UINT64_MAX, &u)) {
        buf_add_u64(&text, u);
        CHECK(text.n <= in.n); /* less only by leading zeros */
    }
    if (span_to_i64(in, -1000, 1000, &i))
        CHECK(i >= -1000 && i <= 1000);
    if (clock_parse_utc(in.p, in.n, &ms) && ms < 253402300800000) {
        clock_format_utc(ms, utc);
        CHECK(clock_parse_utc(utc, strlen(utc), &again) && again == ms);
    }
    buf_free(&raw);
    buf_free(&text);
    return 0;
}

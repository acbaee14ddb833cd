/* Any bytes as a login: the first byte picks the mechanism, the second what the server has, then messages,
 * each with its length in one byte. Nothing but a right proof may end in SASL_DONE, so with random keys only
 * EXTERNAL may. The whole input is read as stored keys too. */
#include <stdint.h>

#include "common/sasl/sasl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sasl_keys keys, again;
    struct buf out = {0};
    if (sasl_keys_parse(span_make(data, size), &keys)) {
        sasl_keys_write(&keys, &out);
        CHECK(sasl_keys_parse(buf_span(&out), &again) && memcmp(&keys, &again, sizeof keys) == 0);
    }
    if (size < 2) {
        buf_free(&out);
        return 0;
    }
    memset(&keys, 7, sizeof keys);
    keys.salt_n = SASL_SALT_OWN;
    keys.has_sha1 = keys.has_sha256 = keys.has_sha512 = true;
    keys.iterations = 1;
    enum sasl_mech mech = (enum sasl_mech)(data[0] % SASL_MECH_COUNT);
    struct sasl_server_config config = {
        .domain = "example.com",
        .exporter = (data[1] & 1) != 0 ? SPAN("exporter") : (struct span){0},
        .server_end_point = (data[1] & 2) != 0 ? SPAN("end point") : (struct span){0},
        .tls = (data[1] & 4) != 0,
        .plain_in_clear = (data[1] & 8) != 0,
        .external_jid = (data[1] & 16) != 0 ? SPAN("remote.example") : (struct span){0},
        .mechanisms_hash = (data[1] & 32) != 0 ? SPAN("A\x1e"
                                                      "B")
                                               : (struct span){0},
    };
    struct sasl *s = sasl_begin(mech, &config);
    enum sasl_status now = SASL_CONTINUE;
    size_t at = 2;
    while (at < size && (now == SASL_CONTINUE || now == SASL_NEED_USER)) {
        size_t n = MIN((size_t)data[at], size - at - 1);
        buf_clear(&out);
        now = sasl_step(s, data[at] != 255, span_make(data + at + 1, n), &out);
        at += n + 1;
        /* An unknown user of PLAIN would cost the usual iterations: too slow here. */
        if (now == SASL_NEED_USER)
            now = sasl_user(s, (data[1] & 64) != 0 && mech != SASL_PLAIN ? NULL : &keys, SPAN("seed"), &out);
    }
    CHECK(now != SASL_DONE || mech == SASL_EXTERNAL);
    CHECK((now == SASL_FAILED) == (sasl_get_error(s) != SASL_E_NONE));
    sasl_free(s);
    buf_free(&out);
    return 0;
}

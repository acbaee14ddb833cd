/* base64 with the vectors of RFC 4648 §10, hex, JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/random.h"
#include "common/base/text.h"

static void base64_encodes_and_decodes(void **state)
{
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    struct buf b = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_clear(&b);
        base64_add(&b, span_of(pairs[i][0]));
        assert_string_equal(buf_cstr(&b), pairs[i][1]);
        buf_clear(&b);
        assert_true(base64_decode(&b, span_of(pairs[i][1])));
        assert_string_equal(buf_cstr(&b), pairs[i][0]);
    }
    buf_free(&b);
}

static void base64_round_trips(void **state)
{
    struct buf text = {0}, back = {0};
    char raw[300];

    (void)state;
    for (size_t n = 0; n < sizeof(raw); n++) {
        random_bytes(raw, n);
        buf_clear(&text);
        buf_clear(&back);
        base64_add(&text, span_make(raw, n));
        assert_true(base64_decode(&back, buf_span(&text)));
        assert_true(span_eq(buf_span(&back), span_make(raw, n)));
    }
    buf_free(&text);
    buf_free(&back);
}

static void base64_knows_each_digit(void **state)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf b = {0};

    (void)state;
    for (int c = 0; c < 256; c++) {
        const char text[] = {'A', 'A', 'A', (char)c};
        const char *at = c != 0 ? strchr(digits, c) : NULL;
        buf_clear(&b);
        assert_int_equal(base64_decode(&b, span_make(text, 4)), at != NULL || c == '=');
        if (at != NULL)
            assert_int_equal(b.p[2], at - digits);
    }
    buf_free(&b);
}

static void base64_is_strict(void **state)
{
    static const char *const bad[] = {"Z",    "Zg",    "Zg=",    "Zg===",   "=Zg=",     "====", "Zh==",
                                      "Zm9=", "Zm 9v", "Zm9v\n", "Zm9vZg=", "Zg==Zg==", "Zm-v", "Zm_v"};
    struct buf b = {0};

    (void)state;
    buf_add_lit(&b, "kept");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        if (base64_decode(&b, span_of(bad[i])))
            fail_msg("accepted %s", bad[i]);
        assert_string_equal(buf_cstr(&b), "kept");
    }
    buf_free(&b);
}

static void hex_works(void **state)
{
    struct buf b = {0};

    (void)state;
    hex_add(&b, span_make("\x00\xff\x1a", 3));
    assert_string_equal(buf_cstr(&b), "00ff1a");
    buf_clear(&b);
    assert_true(hex_decode(&b, SPAN("00fF1A")));
    assert_true(span_eq(buf_span(&b), span_make("\x00\xff\x1a", 3)));
    assert_false(hex_decode(&b, SPAN("0")));
    assert_false(hex_decode(&b, SPAN("0g")));
    assert_int_equal(b.n, 3);
    buf_free(&b);
}

static void json_writes(void **state)
{
    struct buf b = {0};
    struct json j = {.out = &b};

    (void)state;
    json_open(&j, NULL, '{');
    json_u64(&j, "u", UINT64_MAX);
    json_i64(&j, "i", INT64_MIN);
    json_double(&j, "d", 0.1);
    json_double(&j, "nan", __builtin_nan(""));
    json_bool(&j, "b", true);
    json_text(&j, "t", SPAN("a\"b\\c\n\x01é"));
    json_open(&j, "list", '[');
    json_open(&j, NULL, '{');
    json_close(&j, '}');
    json_bool(&j, NULL, false);
    json_open(&j, NULL, '[');
    json_close(&j, ']');
    json_close(&j, ']');
    json_u64(&j, "last", 0);
    json_close(&j, '}');
    assert_string_equal(
        buf_cstr(&b),
        "{\"u\":18446744073709551615,\"i\":-9223372036854775808,\"d\":0.1,\"nan\":null,\"b\":true,"
        "\"t\":\"a\\\"b\\\\c\\u000a\\u0001é\",\"list\":[{},false,[]],\"last\":0}");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(base64_encodes_and_decodes),
        cmocka_unit_test(base64_round_trips),
        cmocka_unit_test(base64_knows_each_digit),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(hex_works),
        cmocka_unit_test(json_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

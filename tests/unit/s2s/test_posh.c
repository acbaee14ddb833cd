/* POSH documents: those of RFC 7711 and what may be wrong with one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "s2s/posh_document.h"

#define SHA256 "4/mggdlVx8A3pvHAWW5sD+qJyMtUHgiRuPjVC48N0XQ="
#define SHA512 "25N+1hB2Vo42l9lSGqw+n3BKFhDHsyork8ou+D9B43TXeJ1J81mdQEDqm39oR/EHkPBDDG1y5+AG94Kec0xVqA=="

static struct posh_document d;

static bool parse(const char *text)
{
    const char *why = NULL;
    posh_document_clear(&d);
    bool good = posh_document_parse(span_of(text), &d, &why);
    assert_true(good || why != NULL);
    return good;
}

static void test_fingerprints(void **state)
{
    (void)state;
    assert_true(parse("{\"fingerprints\":[{\"sha-256\":\"" SHA256 "\",\"sha-512\":\"" SHA512 "\"},"
                      "{\"sha-256\":\"" SHA256 "\"}],\"expires\":604800,\"new\":[1]}"));
    assert_int_equal(d.count, 2);
    assert_int_equal(d.expires_s, 604800);
    assert_int_equal(d.fingerprints[0].n, 64);
    assert_int_equal(d.fingerprints[0].hash[0], 0xdb);
    assert_int_equal(d.fingerprints[1].n, 32);
    assert_int_equal(d.fingerprints[1].hash[0], 0xe3);
    assert_null(d.url);
}

static void test_a_hash_that_is_broken_or_unknown_does_not_count(void **state)
{
    (void)state;
    assert_true(parse("{\"fingerprints\":[{\"sha-1\":\"AAAA\"},{\"sha-256\":\"AAAA\"},{\"sha-256\":7},"
                      "{\"sha-512\":\"!!\",\"sha-256\":\"" SHA256 "\"},8],\"expires\":1}"));
    assert_int_equal(d.count, 1);
    assert_int_equal(d.fingerprints[0].n, 32);
    assert_false(parse("{\"fingerprints\":[{\"md5\":\"AAAA\"}],\"expires\":1}"));
    assert_false(parse("{\"fingerprints\":[],\"expires\":1}"));
    assert_false(parse("{\"fingerprints\":\"" SHA256 "\",\"expires\":1}"));
}

static void test_reference(void **state)
{
    (void)state;
    assert_true(parse("{\"url\":\"https://hosting.example.net/x.json\",\"expires\":86400}"));
    assert_string_equal(d.url, "https://hosting.example.net/x.json");
    assert_int_equal(d.count, 0);
    assert_false(parse("{\"url\":[],\"expires\":86400}"));
    assert_false(
        parse("{\"url\":\"https://x/\",\"fingerprints\":[{\"sha-256\":\"" SHA256 "\"}],\"expires\":1}"));
}

static void test_expiry(void **state)
{
    (void)state;
    assert_false(parse("{\"url\":\"https://x/\",\"expires\":0}"));
    assert_false(parse("{\"url\":\"https://x/\",\"expires\":-1}"));
    assert_false(parse("{\"url\":\"https://x/\",\"expires\":\"1\"}"));
    assert_false(parse("{\"url\":\"https://x/\",\"expires\":1.5}"));
    assert_false(parse("{\"url\":\"https://x/\"}"));
}

static void test_what_is_no_document(void **state)
{
    (void)state;
    assert_false(parse(""));
    assert_false(parse("[]"));
    assert_false(parse("<html/>"));
    assert_false(parse("{\"expires\":1}"));
    assert_false(parse("{\"expires\":1,\"expires\":2,\"url\":\"https://x/\"}"));
}

static int clear(void **state)
{
    (void)state;
    posh_document_clear(&d);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprints),
        cmocka_unit_test(test_a_hash_that_is_broken_or_unknown_does_not_count),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_what_is_no_document),
    };
    return cmocka_run_group_tests(tests, NULL, clear);
}

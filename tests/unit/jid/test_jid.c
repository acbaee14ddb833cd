/* Addresses: the tables of RFC 7622 §3.5, the profiles' rules, lengths, parts, escapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/jid/jid.h"

struct vector {
    const char *text;
    const char *prepared; /* NULL: refused */
};

static void check(const struct vector *v)
{
    struct buf store = {0};
    struct jid j;
    const char *why = NULL;
    bool good = jid_prepare(span_of(v->text), &store, &j, &why);
    struct span got = good ? jid_full(&j) : SPAN("a refusal");
    if (good != (v->prepared != NULL) || (good && !span_is(got, v->prepared)))
        fail_msg("<%s>: want %s, got %.*s (%s)", v->text, v->prepared != NULL ? v->prepared : "a refusal",
                 SPAN_FMT(got), why != NULL ? why : "");
    if (good) {
        /* What is prepared stays as it is and can be taken apart. */
        struct buf again = {0};
        struct jid k, s;
        assert_true(jid_prepare(jid_full(&j), &again, &k, NULL));
        assert_true(span_eq(jid_full(&j), jid_full(&k)));
        assert_true(jid_split(jid_full(&j), &s));
        assert_int_equal(s.local_n, j.local_n);
        assert_int_equal(s.domain_n, j.domain_n);
        assert_int_equal(s.resource_n, j.resource_n);
        buf_free(&again);
    } else {
        assert_non_null(why);
        assert_int_equal(store.n, 0);
    }
    buf_free(&store);
}

static void rfc7622_tables(void **state)
{
    (void)state;
    static const struct vector vectors[] = {
        {"juliet@example.com", "juliet@example.com"},                   /* 1 */
        {"juliet@example.com/foo", "juliet@example.com/foo"},           /* 2 */
        {"juliet@example.com/foo bar", "juliet@example.com/foo bar"},   /* 3 */
        {"juliet@example.com/foo@bar", "juliet@example.com/foo@bar"},   /* 4 */
        {"foo\\20bar@example.com", "foo\\20bar@example.com"},           /* 5 */
        {"fussball@example.com", "fussball@example.com"},               /* 6 */
        {"fu\u00dfball@example.com", "fu\u00dfball@example.com"},       /* 7 */
        {"\u03c0@example.com", "\u03c0@example.com"},                   /* 8 */
        {"\u03a3@example.com/foo", "\u03c3@example.com/foo"},           /* 9 */
        {"\u03c3@example.com/foo", "\u03c3@example.com/foo"},           /* 10 */
        {"\u03c2@example.com/foo", "\u03c2@example.com/foo"},           /* 11 */
        {"king@example.com/\u265a", "king@example.com/\u265a"},         /* 12 */
        {"example.com", "example.com"},                                 /* 13 */
        {"example.com/foobar", "example.com/foobar"},                   /* 14 */
        {"a.example.com/b@example.net", "a.example.com/b@example.net"}, /* 15 */
        {"\"juliet\"@example.com", NULL},                               /* 16 */
        {"foo bar@example.com", NULL},                                  /* 17 */
        {"juliet@example.com/ foo", NULL},                              /* 18 */
        {"@example.com/", NULL},                                        /* 19 */
        {"henry\u2163@example.com", NULL},                              /* 20 */
        {"\u265a@example.com", NULL},                                   /* 21 */
        {"juliet@", NULL},                                              /* 22 */
        {"/foobar", NULL},                                              /* 23 */
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        check(&vectors[i]);
}

static void localparts(void **state)
{
    (void)state;
    static const struct vector vectors[] = {
        {"JULIET@example.com", "juliet@example.com"},
        {"\u00c9COLE@x", "\u00e9cole@x"},
        {"e\u0301cole@x", "\u00e9cole@x"},    /* NFC */
        {"\u212aing@x", "king@x"},            /* KELVIN SIGN: mapped before it is judged */
        {"\u212b@x", "\u00e5@x"},             /* ANGSTROM SIGN */
        {"\uff2aUL@x", "jul@x"},              /* fullwidth J */
        {"\uff20@x", NULL},                   /* fullwidth commercial at */
        {"\uff76@x", "\u30ab@x"},             /* halfwidth katakana */
        {"\u0391\u03a3@x", "\u03b1\u03c3@x"}, /* no final sigma by context */
        {"\u0130@x", "i\u0307@x"},            /* full lower case of I with dot */
        {"\u01c5@x", NULL},                   /* title case digraph: compat */
        {"a\u00a0b@x", NULL},                 /* no-break space */
        {"a\u00adb@x", NULL},                 /* soft hyphen: ignorable */
        {"a\u200bb@x", NULL},                 /* zero width space */
        {"a\u0640@x", NULL},                  /* tatweel: exception */
        {"\u1100@x", NULL},                   /* old hangul jamo */
        {"\u0378@x", NULL},                   /* unassigned */
        {"\ufb01x@x", NULL},                  /* ligature */
        {"a\u20ac@x", NULL},                  /* symbol */
        {"a\x01@x", NULL},
        {"a\x7f@x", NULL},
        {"a\xff@x", NULL},
        {"a\xc0\xaf@x", NULL},        /* overlong */
        {"a\xed\xa0\x80@x", NULL},    /* surrogate */
        {"\xf0\x9f\x98\x80@x", NULL}, /* emoji */
        {"a&b@x", NULL},
        {"a'b@x", NULL},
        {"a:b@x", NULL},
        {"a<b@x", NULL},
        {"a>b@x", NULL},
        {"\u00e9:b@x", NULL},
        /* contextual rules (RFC 5892 appendix A) */
        {"l\u00b7l@x", "l\u00b7l@x"},
        {"l\u00b7a@x", NULL},
        {"\u00b7@x", NULL},
        {"\u0375\u03b1@x", "\u0375\u03b1@x"},
        {"\u0375a@x", NULL},
        {"\u05d0\u05f3@x", "\u05d0\u05f3@x"},
        {"\u05f3\u05d0@x", NULL},
        {"\u30fb\u30ab@x", "\u30fb\u30ab@x"},
        {"\u30fba@x", NULL},
        {"\u0628\u0660@x", "\u0628\u0660@x"},
        {"\u0628\u0660\u06f0@x", NULL},
        {"\u0915\u094d\u200c@x", "\u0915\u094d\u200c@x"}, /* ZWNJ after virama */
        {"\u0915\u094d\u200d@x", "\u0915\u094d\u200d@x"}, /* ZWJ after virama */
        {"\u0915\u200d@x", NULL},
        {"\u0628\u200c\u0628@x", "\u0628\u200c\u0628@x"}, /* ZWNJ between joining letters */
        {"a\u200cb@x", NULL},
        {"\u200ca@x", NULL},
        /* the Bidi Rule (RFC 5893) */
        {"\u05d0\u05d1@x", "\u05d0\u05d1@x"},
        {"\u05d01@x", "\u05d01@x"},
        {"1\u05d0@x", NULL},
        {"a\u05d0@x", NULL},
        {"\u05d0a@x", NULL},
        {"\u06281\u0661@x", NULL}, /* European and Arabic digits */
        {"\u05d0-@x", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        check(&vectors[i]);
}

static void resourceparts(void **state)
{
    (void)state;
    static const struct vector vectors[] = {
        {"x/Home", "x/Home"},
        {"x/a/b/c", "x/a/b/c"},
        {"x/a\u00a0b", "x/a b"}, /* other spaces become U+0020 */
        {"x/a\u3000b", "x/a b"},
        {"x/\u3000b", NULL},
        {"x/a ", "x/a "},
        {"x/e\u0301", "x/\u00e9"},
        {"x/\uff21", "x/\uff21"}, /* no width mapping */
        {"x/\u2163", "x/\u2163"},
        {"x/\xf0\x9f\x98\x80", "x/\xf0\x9f\x98\x80"},
        {"x/\u05d0a", "x/\u05d0a"}, /* no directionality rule */
        {"x/a\tb", NULL},
        {"x/a\u200bb", NULL},
        {"x/\ufffe", NULL},
        {"x/\ue000", NULL}, /* private use */
        {"x/\u00b7", NULL},
        {"x/\xe2\x82", NULL},
        {"x/", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        check(&vectors[i]);
}

static void domainparts(void **state)
{
    (void)state;
    static const struct vector vectors[] = {
        {"EXAMPLE.com", "example.com"},
        {"example.com.", "example.com"},
        {"localhost", "localhost"},
        {"127.0.0.1", "127.0.0.1"},
        {"[::1]", "[::1]"},
        {"a@[2001:DB8:0:0::1]/r", "a@[2001:db8::1]/r"},
        {"[::1", NULL},
        {"[]", NULL},
        {"[::g]", NULL},
        {"b\u00fccher.example", "b\u00fccher.example"},
        {"B\u00dcCHER.example", "b\u00fccher.example"},
        {"bu\u0308cher.example", "b\u00fccher.example"},
        {"xn--bcher-kva.example", "b\u00fccher.example"},
        {"XN--BCHER-KVA.example.", "b\u00fccher.example"},
        {"xn--bcher-kv.example", NULL},
        {"xn--abc-.example", NULL},
        {"xn--a.example", NULL},
        {"xn--bce.example", "\u13eb.example"}, /* Cherokee folds to capitals */
        {"\u13eb.example", "\u13eb.example"},
        {"\uabbb.example", "\u13eb.example"},
        {"fa\u00df.de", "fa\u00df.de"}, /* IDNA2008 keeps it */
        {"\u212aing.example", "king.example"},
        {"\uff45xample\u3002com", "example.com"}, /* fullwidth e, ideographic full stop */
        {"\uff45xample\uff61com", "example.com"},
        {"\u265a.example", NULL},
        {"\u2163.example", NULL},
        {"ab--cd.example", NULL},
        {"a--b.example", "a--b.example"},
        {"-a.example", NULL},
        {"a-.example", NULL},
        {"a_b.example", NULL},
        {"a b.example", NULL},
        {"a..b", NULL},
        {".", NULL},
        {".a", NULL},
        {"a..", NULL},
        {"\u05d0.example", "\u05d0.example"},
        {"3com.\u05d0", NULL},     /* every label must keep the rule */
        {"\u0301a.example", NULL}, /* leading combining mark */
        {"l\u00b7l.cat", "l\u00b7l.cat"},
        {"a\u00b7b.cat", NULL},
        {"ex\x80mple", NULL},
        {"a@b@c", NULL},
        {"@", NULL},
        {"", NULL},
        {"/", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        check(&vectors[i]);
}

static void domains_for_dns(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"example.com", "example.com"},
        {"b\u00fccher.example", "xn--bcher-kva.example"},
        {"fa\u00df.de", "xn--fa-hia.de"},
        {"\u05d0.example", "xn--4db.example"},
        {"[::1]", "[::1]"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_clear(&out);
        assert_true(jid_domain_to_ascii(span_of(pairs[i][0]), &out));
        assert_string_equal(buf_cstr(&out), pairs[i][1]);
    }
    buf_clear(&out);
    char big[254];
    memset(big, 'a', sizeof big);
    assert_false(jid_domain_to_ascii(span_make(big, 254), &out));
    assert_false(jid_domain_to_ascii(SPAN(""), &out));
    assert_false(jid_domain_to_ascii(SPAN("\u265a"), &out));
    assert_false(jid_domain_to_ascii(SPAN("\xff\xfe"), &out));
    assert_int_equal(out.n, 0);
    buf_free(&out);
}

/* Lengths count after preparation. */
static void lengths(void **state)
{
    (void)state;
    char text[8192];
    struct buf store = {0};
    const char *why = NULL;
    memset(text, 'a', sizeof text);
    assert_true(jid_prepare_local(span_make(text, 1023), &store, &why));
    assert_int_equal(store.n, 1023);
    assert_false(jid_prepare_local(span_make(text, 1024), &store, &why));
    assert_true(jid_prepare_resource(span_make(text, 1023), &store, &why));
    assert_false(jid_prepare_resource(span_make(text, 1024), &store, &why));
    assert_false(jid_prepare_resource(span_make(text, sizeof text), &store, &why));
    assert_string_equal(why, "the resourcepart is longer than 1023 bytes");
    assert_true(jid_prepare_domain(span_make(text, 63), &store, &why));
    assert_false(jid_prepare_domain(span_make(text, 64), &store, &why));
    for (size_t i = 63; i < sizeof text; i += 64)
        text[i] = '.';
    assert_true(jid_prepare_domain(span_make(text, 1023), &store, &why));
    assert_true(jid_prepare_domain(span_make(text, 1024), &store, &why)); /* the last byte is the final dot */
    assert_false(jid_prepare_domain(span_make(text, 1025), &store, &why));
    /* 1023 fullwidth letters of 3 bytes each fit; 512 letters of 2 bytes don't */
    buf_clear(&store);
    struct buf wide = {0};
    for (int i = 0; i < 1023; i++)
        buf_add_str(&wide, "\uff41");
    assert_true(jid_prepare_local(buf_span(&wide), &store, &why));
    assert_int_equal(store.n, 1023);
    assert_false(jid_prepare_resource(buf_span(&wide), &store, &why));
    buf_clear(&wide);
    for (int i = 0; i < 512; i++)
        buf_add_str(&wide, "\u00e9");
    assert_false(jid_prepare_local(buf_span(&wide), &store, &why));
    assert_int_equal(store.n, 1023); /* unchanged by a refusal */
    buf_free(&wide);
    buf_free(&store);
}

static void views_and_appending(void **state)
{
    (void)state;
    struct buf store = {0};
    struct jid j;
    buf_add_str(&store, "before");
    assert_true(jid_prepare(SPAN("Romeo@Example.NET/Orchard/1"), &store, &j, NULL));
    assert_true(span_is(buf_span(&store), "beforeromeo@example.net/Orchard/1"));
    assert_true(span_is(jid_full(&j), "romeo@example.net/Orchard/1"));
    assert_true(span_is(jid_bare(&j), "romeo@example.net"));
    assert_true(span_is(jid_local(&j), "romeo"));
    assert_true(span_is(jid_domain(&j), "example.net"));
    assert_true(span_is(jid_resource(&j), "Orchard/1"));
    assert_false(jid_prepare(SPAN("romeo@example.net/\t"), &store, &j, NULL));
    assert_true(span_is(buf_span(&store), "beforeromeo@example.net/Orchard/1"));
    assert_true(jid_split(SPAN("example.net"), &j));
    assert_true(span_is(jid_bare(&j), "example.net"));
    assert_int_equal(jid_local(&j).n, 0);
    assert_int_equal(jid_resource(&j).n, 0);
    assert_true(jid_split(SPAN("example.net/a@b"), &j));
    assert_true(span_is(jid_domain(&j), "example.net"));
    assert_true(span_is(jid_resource(&j), "a@b"));
    buf_free(&store);
}

static void split_refuses(void **state)
{
    (void)state;
    struct jid j;
    static const char *const bad[] = {"",
                                      "@",
                                      "/",
                                      "a@",
                                      "@b",
                                      "a/",
                                      "a@/r",
                                      "a@b/",
                                      "a@b\n",
                                      "12345678\x01",
                                      ("1234\x7f"
                                       "5678")};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(jid_split(span_of(bad[i]), &j));
    assert_false(jid_split(span_make("a\0b", 3), &j));
    assert_true(jid_split(SPAN("\u03c0\u03c0\u03c0\u03c0@b"), &j));
    char text[JID_MAX_BYTES + 1];
    memset(text, 'a', sizeof text);
    assert_true(jid_split(span_make(text, 1023), &j));
    assert_false(jid_split(span_make(text, 1024), &j));
    text[1023] = '@';
    text[1023 + 1 + 1023] = '/';
    assert_true(jid_split(span_make(text, JID_MAX_BYTES), &j));
    assert_false(jid_split(span_make(text, JID_MAX_BYTES + 1), &j));
}

/* The examples of XEP-0106 §5 and §4.3. */
static void escapes(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"space cadet", "space\\20cadet"},
        {"call me \"ishmael\"", "call\\20me\\20\\22ishmael\\22"},
        {"at&t guy", "at\\26t\\20guy"},
        {"d'artagnan", "d\\27artagnan"},
        {"/.fanboy", "\\2f.fanboy"},
        {"::foo::", "\\3a\\3afoo\\3a\\3a"},
        {"<foo>", "\\3cfoo\\3e"},
        {"user@host", "user\\40host"},
        {"c:\\net", "c\\3a\\net"},
        {"c:\\\\net", "c\\3a\\\\net"},
        {"c:\\cool stuff", "c\\3a\\cool\\20stuff"},
        {"c:\\5commas", "c\\3a\\5c5commas"},
        {"\\3and\\2is\\5@example.com", "\\5c3and\\2is\\5\\40example.com"},
    };
    struct buf out = {0};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        buf_clear(&out);
        jid_escape(span_of(pairs[i][0]), &out);
        assert_string_equal(buf_cstr(&out), pairs[i][1]);
        struct buf back = {0};
        jid_unescape(buf_span(&out), &back);
        assert_string_equal(buf_cstr(&back), pairs[i][0]);
        buf_free(&back);
    }
    buf_free(&out);
}

/* Printed, not judged: the machine may be busy. */
static void cost(void **state)
{
    (void)state;
    struct buf store = {0};
    struct jid j;
    struct span text = SPAN("juliet.capulet@chat.example.com/balcony-4711");
    size_t sum = 0;
    enum { ROUNDS = 200000 };
    uint64_t start = clock_mono_ns();
    for (int i = 0; i < ROUNDS; i++) {
        buf_clear(&store);
        sum += jid_prepare(text, &store, &j, NULL);
    }
    uint64_t middle = clock_mono_ns();
    for (int i = 0; i < ROUNDS; i++)
        sum += jid_split(text, &j);
    uint64_t end = clock_mono_ns();
    assert_int_equal(sum, 2 * ROUNDS);
    printf("jid_prepare, ASCII: %.1f ns; jid_split: %.1f ns\n", (double)(middle - start) / ROUNDS,
           (double)(end - middle) / ROUNDS);
    buf_free(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc7622_tables),
        cmocka_unit_test(localparts),
        cmocka_unit_test(resourceparts),
        cmocka_unit_test(domainparts),
        cmocka_unit_test(domains_for_dns),
        cmocka_unit_test(lengths),
        cmocka_unit_test(views_and_appending),
        cmocka_unit_test(split_refuses),
        cmocka_unit_test(escapes),
        cmocka_unit_test(cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

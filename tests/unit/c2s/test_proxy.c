#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "c2s/proxy.h"

static struct proxy_header header;

static void test_v1(void **state)
{
    (void)state;
    static const char text[] = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n<stream";
    size_t n = strlen("PROXY TCP4 192.0.2.7 198.51.100.1 56324 5222\r\n");
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(proxy_parse(span_make(text, cut), &header), PROXY_MORE);
    assert_int_equal(proxy_parse(span_of(text), &header), PROXY_OK);
    assert_int_equal(header.n, n);
    assert_true(header.known);
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)&header.address;
    assert_int_equal(ntohl(in4->sin_addr.s_addr), 0xc0000207);
    assert_int_equal(ntohs(in4->sin_port), 56324);
}

static void test_v1_others(void **state)
{
    (void)state;
    assert_int_equal(proxy_parse(SPAN("PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), &header), PROXY_OK);
    assert_int_equal(header.address.ss_family, AF_INET6);
    assert_int_equal(proxy_parse(SPAN("PROXY UNKNOWN\r\n"), &header), PROXY_OK);
    assert_false(header.known);
    const char *bad[] = {
        "PROXY TCP4 192.0.2.7 198.51.100.1 70000 5222\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 1 5222\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1 5222\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 1 5222\r\n",
        "PROXY TCP4\r\n",
        "GET / HTTP/1.1\r\n",
        "\x16\x03\x01",
        "PROXY TCP4 "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(proxy_parse(span_of(bad[i]), &header), PROXY_BAD);
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void test_v2(void **state)
{
    (void)state;
    static const char v4[] =
        SIGNATURE "\x21\x11\0\x0f\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x14\x66\x04\0\0rest";
    size_t n = 12 + 4 + 15;
    for (size_t cut = 0; cut < n; cut++)
        assert_int_equal(proxy_parse(span_make(v4, cut), &header), PROXY_MORE);
    assert_int_equal(proxy_parse(span_make(v4, sizeof(v4) - 1), &header), PROXY_OK);
    assert_int_equal(header.n, n);
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)&header.address;
    assert_int_equal(ntohl(in4->sin_addr.s_addr), 0xc0000207);
    assert_int_equal(ntohs(in4->sin_port), 0xdc04);
    assert_int_equal(proxy_parse(SPAN(SIGNATURE "\x20\0\0\0"), &header), PROXY_OK);
    assert_false(header.known);
    assert_int_equal(proxy_parse(SPAN(SIGNATURE "\x21\x11\0\x04"
                                                "abcd"),
                                 &header),
                     PROXY_BAD);
    assert_int_equal(proxy_parse(SPAN(SIGNATURE "\x31\x11\0\0"), &header), PROXY_BAD);
    assert_int_equal(proxy_parse(SPAN(SIGNATURE "\x21\x11\xff\xff"), &header), PROXY_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),
        cmocka_unit_test(test_v1_others),
        cmocka_unit_test(test_v2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The stats endpoint, asked over a real socket. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/proc/endpoint.h"
#include "common/stats/stats.h"

static struct stat_counter counter = STAT_COUNTER("jackdaw_test_total", "A test", "kind=\"x\"");

/* Sends raw bytes and returns everything that comes back (caller frees). */
static char *ask(const struct endpoint *e, const char *request)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)atoi(strrchr(endpoint_address(e), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    struct buf answer = {0};
    for (ssize_t n = 1; n > 0;) {
        n = read(fd, buf_reserve(&answer, 4096), 4096);
        answer.n += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    char *text = xstrdup(buf_cstr(&answer));
    buf_free(&answer);
    return text;
}

static void expect(const struct endpoint *e, const char *path, const char *status, const char *body)
{
    char request[128];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path);
    char *answer = ask(e, request);
    if (strstr(answer, status) == NULL || strstr(answer, body) == NULL)
        fail_msg("%s: wanted %s and %s in:\n%s", path, status, body, answer);
    free(answer);
}

static void test_pages(void **state)
{
    (void)state;
    char *error = NULL;
    struct endpoint *e = endpoint_open("127.0.0.1:0", &error);
    assert_non_null(e);
    stat_register(&counter.meta);
    stat_add(&counter, 41);
    assert_true(endpoint_start(e, &error));
    expect(e, "/metrics", " 200 ", "jackdaw_test_total{kind=\"x\"} 41");
    expect(e, "/stats", " 200 ", "jackdaw_test_total");
    expect(e, "/healthz", " 200 ", "ok\n");
    expect(e, "/readyz", " 503 ", "starting\n");
    endpoint_set_not_ready(e, NULL);
    expect(e, "/readyz", " 200 ", "ready\n");
    endpoint_set_not_ready(e, "waiting for Redis");
    expect(e, "/readyz", " 503 ", "waiting for Redis\n");
    endpoint_alive(e, clock_mono_ms() - 60000);
    expect(e, "/healthz", " 503 ", "does not turn");
    expect(e, "/", " 404 ", "/metrics");
    char *answer = ask(e, "DELETE /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_non_null(strstr(answer, " 405 "));
    free(answer);
    answer = ask(e, "\x16\x03\x01 junk\r\n\r\n");
    assert_null(strstr(answer, " 200 "));
    free(answer);
    endpoint_free(e);
}

static void test_wrong_addresses(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",   "localhost:1", "127.0.0.1", "127.0.0.1:99999",
                                        ":1", "[::1:5",      "[]:1"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char *error = NULL;
        assert_null(endpoint_open(wrong[i], &error));
        assert_non_null(error);
        free(error);
    }
    char *error = NULL;
    struct endpoint *first = endpoint_open("127.0.0.1:0", &error);
    assert_null(endpoint_open(endpoint_address(first), &error));
    assert_non_null(strstr(error, "in use"));
    free(error);
    endpoint_free(first);
    endpoint_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages), cmocka_unit_test(test_wrong_addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

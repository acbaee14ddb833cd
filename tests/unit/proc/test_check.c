/* Values that contradict each other, or open the bus to strangers, are told at start. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/proc/check.h"

/* Sets the options (NULL-terminated) over the defaults; the complaint must contain `want`, NULL = none. */
static void check(const char *want, const char *const *options)
{
    struct conf *c = conf_new();
    struct buf errors = {0};
    bool good = true;
    for (; *options != NULL; options++)
        good &= conf_set(c, *options, &errors);
    good = good && check_values(c, &errors);
    if (good != (want == NULL) || (want != NULL && strstr(buf_cstr(&errors), want) == NULL))
        fail_msg("%s", buf_cstr(&errors));
    buf_free(&errors);
    conf_free(c);
}

#define CHECK_CONF(want, ...) check(want, (const char *const[]){__VA_ARGS__, NULL})
#define KEY                   "bus.curve_secret_key=0123456789012345678901234567890123456789"

static void test_bus_in_clear(void **state)
{
    (void)state;
    CHECK_CONF(NULL, "bus.listen=ipc:///run/x.ipc");
    CHECK_CONF(NULL, "bus.listen=tcp://127.0.0.1:7000");
    CHECK_CONF(NULL, "bus.listen=tcp://127.1.2.3:*");
    CHECK_CONF(NULL, "bus.listen=tcp://[::1]:7000");
    CHECK_CONF("bus.insecure_tcp", "bus.listen=tcp://10.0.0.1:7000");
    CHECK_CONF("bus.insecure_tcp", "bus.listen=tcp://0.0.0.0:7000");
    CHECK_CONF("bus.insecure_tcp", "bus.listen=tcp://*:7000");
    CHECK_CONF("bus.insecure_tcp", "bus.listen=tcp://[::]:7000");
    CHECK_CONF("bus.insecure_tcp", "bus.listen=tcp://host.example:7000");
    CHECK_CONF("bus.insecure_tcp", "bus.listen=tcp://127.evil.example:7000");
    CHECK_CONF(NULL, "bus.listen=tcp://10.0.0.1:7000", KEY);
    CHECK_CONF(NULL, "bus.listen=tcp://10.0.0.1:7000", "bus.insecure_tcp=true");
}

/* The highest values that are allowed fit together, also all at once. */
static void test_sizes(void **state)
{
    (void)state;
    CHECK_CONF(NULL, "c2s.stanza_max_bytes=4194304", "s2s.stanza_max_bytes=4194304",
               "limits.roster_bytes=8388608");
    CHECK_CONF("c2s.stanza_max_bytes", "c2s.stanza_max_bytes=4194305");
    CHECK_CONF("s2s.stanza_max_bytes", "s2s.stanza_max_bytes=16777216");
    CHECK_CONF("limits.roster_bytes", "limits.roster_bytes=16777216");
    /* Also a value that did not come through the table. */
    struct conf *c = conf_new();
    struct buf errors = {0};
    c->c2s_stanza_max_bytes = 16777216;
    assert_false(check_values(c, &errors));
    assert_non_null(strstr(buf_cstr(&errors), "c2s.stanza_max_bytes"));
    buf_free(&errors);
    conf_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bus_in_clear),
        cmocka_unit_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

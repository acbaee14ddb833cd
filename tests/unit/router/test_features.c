/* The index over the features' tables: everything in them is found, in order, and nothing twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/feature.h"

static int setup(void **state)
{
    struct conf *conf = conf_new();
    (void)state;
    struct buf errors = {0}; /* all features, also those that are off by default */
    assert_true(conf_set(conf, "s2s.privileges=gate.a=roster:get", &errors));
    features_init(conf);
    conf_free(conf);
    return 0;
}

static void routes(void **state)
{
    (void)state;
    unsigned count = 0;
    for (unsigned i = 0; features[i] != NULL; i++)
        for (unsigned k = 0; k < FEATURE_LIST_MAX && features[i]->iqs[k].ns != NULL; k++) {
            const struct iq_route *r = &features[i]->iqs[k];
            struct span name = r->name != NULL ? span_of(r->name) : SPAN("any");
            if (feature_iq(r->type, r->to, span_of(r->ns), name) != r)
                fail_msg("%s: a route of {%s} is hidden by another feature's", features[i]->name, r->ns);
            count++;
        }
    assert_true(count > 20);
    assert_null(feature_iq(STANZA_GET, IQ_TO_ACCOUNT, SPAN("urn:nobody"), SPAN("query")));
    assert_null(feature_iq(STANZA_GET, IQ_TO_ACCOUNT, SPAN(NS_PING), SPAN("pong")));
    assert_null(feature_iq(STANZA_SET, IQ_TO_ACCOUNT, SPAN(NS_PING), SPAN("ping")));
    assert_null(feature_iq(STANZA_GET, IQ_TO_OTHER, SPAN(NS_PING), SPAN("ping")));
    assert_non_null(feature_iq(STANZA_SET, IQ_TO_OTHER, SPAN(NS_ROSTER), SPAN("whatever")));
}

static void hooks(void **state)
{
    (void)state;
    for (unsigned phase = 0; phase < PHASE_COUNT; phase++)
        for (unsigned kind = 0; kind < 3; kind++)
            for (unsigned sent = 0; sent < 2; sent++) {
                unsigned mask = 1u << kind | (sent ? ON_SENT : ON_RECEIVED), n = 0;
                for (unsigned i = 0; features[i] != NULL; i++)
                    for (unsigned k = 0; k < FEATURE_LIST_MAX && features[i]->hooks[k].fn != NULL; k++) {
                        const struct feature_hook *h = &features[i]->hooks[k];
                        if (h->phase == phase && (h->mask & mask) == mask)
                            assert_ptr_equal(feature_hook((enum phase)phase, mask, n++), h);
                    }
                assert_null(feature_hook((enum phase)phase, mask, n));
            }
}

static void slots(void **state)
{
    (void)state;
    size_t end = 0;
    for (unsigned i = 0; features[i] != NULL; i++) {
        assert_true(feature_enabled(features[i]));
        assert_int_equal(feature_session_offset(features[i]) % 16, 0);
        assert_true(feature_session_offset(features[i]) >= end);
        end = feature_session_offset(features[i]) + features[i]->session_size;
    }
    assert_true(feature_session_bytes() >= end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(routes, setup),
        cmocka_unit_test_setup(hooks, setup),
        cmocka_unit_test_setup(slots, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

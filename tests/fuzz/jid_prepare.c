/* Any bytes as an address: no crash, and what is accepted is stable, within the limits and can be taken
 * apart. */
#include <stdint.h>

#include "common/jid/jid.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = span_make(data, size);
    struct buf store = {0}, again = {0};
    struct jid j, k, s;
    const char *why = NULL;
    jid_split(text, &s);
    if (jid_prepare(text, &store, &j, &why)) {
        CHECK(jid_full(&j).n == store.n && jid_full(&j).n <= JID_MAX_BYTES);
        CHECK(jid_prepare(jid_full(&j), &again, &k, NULL));
        CHECK(span_eq(buf_span(&store), buf_span(&again)));
        CHECK(jid_split(jid_full(&j), &s));
        CHECK(s.local_n == j.local_n && s.domain_n == j.domain_n && s.resource_n == j.resource_n);
    } else {
        CHECK(why != NULL && store.n == 0);
    }
    buf_clear(&store);
    buf_clear(&again);
    jid_domain_to_ascii(text, &store);
    buf_clear(&store);
    jid_escape(text, &store);
    jid_unescape(buf_span(&store), &again);
    CHECK(span_eq(buf_span(&again), text));
    buf_free(&store);
    buf_free(&again);
    return 0;
}

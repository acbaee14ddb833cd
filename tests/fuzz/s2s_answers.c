/* DNS answers anything: SRV, address and TLSA records of any bytes and number, secure or not, in any order.
 */
#include <stdint.h>

#include "tests/fuzz/s2s_doubles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned ended;

static void on_end(void *ctx, enum resolve_result result, const struct target *targets, unsigned count)
{
    (void)ctx;
    ended++;
    CHECK((result == RESOLVE_OK) == (count > 0) && count <= RESOLVE_TARGETS_MAX);
    for (unsigned i = 0; i < count; i++) {
        CHECK(targets[i].tlsa_count <= TARGET_TLSA_MAX);
        CHECK(memchr(targets[i].host, '\0', sizeof targets[i].host) != NULL);
        CHECK(targets[i].address.ss_family == AF_INET || targets[i].address.ss_family == AF_INET6);
    }
}

/* One answer: flags, the number of records, then each as length and bytes. */
static size_t answer(const uint8_t *data, size_t size)
{
    char *records[65] = {0}, qname[] = "x", why[] = "forged";
    int lengths[65] = {0};
    uint8_t flags = data[0];
    size_t count = size > 1 ? data[1] % 65 : 0, at = 2, n = 0;
    while (n < count && at < size) {
        size_t length = MIN(data[at], size - at - 1);
        records[n] = xmalloc(length + 1); /* of its own, so that reading past its end is seen */
        memcpy(records[n], data + at + 1, length);
        lengths[n++] = (int)length;
        at += 1 + length;
    }
    struct ub_result r = {.qname = qname,
                          .data = records,
                          .len = lengths,
                          .havedata = n > 0,
                          .secure = (flags & 1) != 0,
                          .bogus = (flags & 6) == 6,
                          .why_bogus = why,
                          .rcode = (flags >> 3) & 7};
    unsigned which = flags >> 6;
    for (unsigned i = 0; i < d.dns_count; i++) {
        unsigned k = (i + which) % d.dns_count;
        ub_callback_type fn = d.dns[k].fn;
        if (fn == NULL)
            continue;
        d.dns[k].fn = NULL;
        fn(d.dns[k].mine, (flags & 0x38) == 0x38, &r);
        break;
    }
    for (size_t i = 0; i < n; i++)
        free(records[i]);
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ended = 0;
    doubles_begin();
    resolve_start(d.s2s.resolver, SPAN("other.example"), on_end, NULL);
    for (size_t at = 0; at < size && ended == 0;)
        at += answer(data + at, size - at);
    if (ended == 0)
        doubles_wait(60000);
    CHECK(ended == 1);
    doubles_end();
    return 0;
}

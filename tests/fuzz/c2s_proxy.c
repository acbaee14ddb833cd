/* Any bytes as a PROXY header: no crash, and the answer does not change when more bytes follow. */
#include <stdint.h>

#include "c2s/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole, part;
    enum proxy_status status = proxy_parse(span_make(data, size), &whole);
    if (status == PROXY_OK)
        CHECK(whole.n > 0 && whole.n <= size && whole.n <= PROXY_MAX_BYTES);
    for (size_t n = 0; n < size && n < 600; n++) {
        enum proxy_status early = proxy_parse(span_make(data, n), &part);
        if (early != PROXY_MORE)
            CHECK(early == status && (early != PROXY_OK || part.n == whole.n));
    }
    return 0;
}

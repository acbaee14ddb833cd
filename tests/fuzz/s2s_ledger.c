/* What a stanza looks like: any bytes have a likeness, always the same, and a delay put into it does not
 * change it. */
#include <stdint.h>

#include "s2s/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DELAY "<delay xmlns='urn:xmpp:delay' from='a' stamp='b'/>"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf plain = {0}, late = {0};
    bool delayed, again;
    uint64_t likeness = ledger_likeness(span_make(data, size), &delayed);
    CHECK(ledger_likeness(span_make(data, size), &again) == likeness && again == delayed);
    if (size > 0 && memchr(data, '<', size) == NULL) { /* as a body */
        buf_add_lit(&plain, "<message id='x' to='y'><body>");
        buf_add(&plain, data, size);
        buf_add_lit(&plain, "</body>");
        buf_add_span(&late, buf_span(&plain));
        buf_add_lit(&plain, "</message>");
        buf_add_lit(&late, DELAY "</message>");
        likeness = ledger_likeness(buf_span(&plain), &delayed);
        CHECK(!delayed && ledger_likeness(buf_span(&late), &again) == likeness && again);
    }
    buf_free(&plain);
    buf_free(&late);
    return 0;
}

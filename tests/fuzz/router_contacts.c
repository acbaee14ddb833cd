/* Roster records: what is read is written the same, everything else is refused. */
#include <stdint.h>
#include <stdlib.h>

#include "router/contacts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct contact c;
    struct span text = span_make(data, size);
    if (!contacts_parse(text, &c))
        return 0;
    struct buf out = {0};
    contacts_write(&out, &c);
    if (!span_eq(text, buf_span(&out)))
        abort();
    buf_free(&out);
    contact_clear(&c);
    return 0;
}

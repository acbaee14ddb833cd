/* Any text is either taken, with something in it that can be used, or refused with a reason. */
#include <stdint.h>

#include "s2s/posh_document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct posh_document d;
    const char *why = NULL;
    if (posh_document_parse(span_make(data, size), &d, &why)) {
        CHECK(d.expires_s > 0 && (d.url != NULL) == (d.count == 0));
        CHECK(d.count <= POSH_FINGERPRINTS_MAX);
        for (unsigned i = 0; i < d.count; i++)
            CHECK(d.fingerprints[i].n == 32 || d.fingerprints[i].n == 48 || d.fingerprints[i].n == 64);
    } else {
        CHECK(why != NULL && d.url == NULL && d.count == 0);
    }
    posh_document_clear(&d);
    return 0;
}

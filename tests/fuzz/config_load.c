/* Any text is either taken or refused with at least one message; what was taken reads back from its own
 * output. */
#include <stdint.h>
#include <stdlib.h>

#include "common/config/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libconfig's scanner loses its buffer when a file ends inside a text: some bytes, once a load. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = xstrndup((const char *)data, size);
    struct buf errors = {0}, written = {0};
    struct conf *c = conf_new();
    /* libconfig's @include would read any file of the machine that runs this. */
    if (strstr(text, "include") == NULL) {
        bool ok = conf_load_text(c, text, "fuzz", &errors);
        CHECK(ok == (errors.n == 0));
        conf_write(c, &written);
        CHECK(conf_load_text(c, buf_cstr(&written), "written", &errors));
        buf_clear(&errors);
        (void)conf_set(c, text, &errors);
    }
    conf_free(c);
    buf_free(&errors);
    buf_free(&written);
    free(text);
    return 0;
}

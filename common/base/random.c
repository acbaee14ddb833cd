/* Randomness from the kernel. Alone in its file, so that a simulation can link a seeded double in its place.
 */
#include "common/base/random.h"

#include <errno.h>
#include <sys/random.h>

void random_bytes(void *out, size_t n)
{
    char *p = out;

    while (n > 0) {
        ssize_t got = getrandom(p, MIN(n, 256), 0);
        if (got < 0 && errno == EINTR)
            continue;
        CHECK(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t value;

    do
        random_bytes(&value, sizeof(value));
    while (value == 0);
    return value;
}

void random_hex(char *out, size_t n_bytes)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char *raw = (unsigned char *)out + n_bytes;

    /* The bytes are drawn into the upper half and widened from the front: writing never overtakes reading. */
    random_bytes(raw, n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned char byte = raw[i];
        out[2 * i] = digits[byte >> 4];
        out[2 * i + 1] = digits[byte & 15];
    }
    out[2 * n_bytes] = '\0';
}

/* Randomness from the kernel. Alone in its file, so that a simulation can link a seeded double in its place.
 *
 * Each thread draws 256 bytes at a time, as a login needs a dozen small pieces; what was given out is wiped,
 * and a forked child draws anew. */
#include "common/base/random.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#define STOCK_BYTES 256 /* one call of getrandom that no signal interrupts */

static _Thread_local struct {
    uint8_t bytes[STOCK_BYTES];
    size_t left; /* at the end of bytes */
} stock;

static void draw(void *out, size_t n)
{
    char *p = out;

    while (n > 0) {
        ssize_t got = getrandom(p, MIN(n, STOCK_BYTES), 0);
        if (got < 0 && errno == EINTR)
            continue;
        CHECK(got > 0);
        p += got;
        n -= (size_t)got;
    }
}

static void forget(void)
{
    stock.left = 0;
}

static void forget_in_children(void)
{
    CHECK(pthread_atfork(NULL, NULL, forget) == 0);
}

void random_bytes(void *out, size_t n)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (n > STOCK_BYTES) {
        draw(out, n);
        return;
    }
    if (n > stock.left) {
        pthread_once(&once, forget_in_children);
        draw(stock.bytes, STOCK_BYTES);
        stock.left = STOCK_BYTES;
    }
    uint8_t *from = stock.bytes + STOCK_BYTES - stock.left;
    memcpy(out, from, n);
    explicit_bzero(from, n);
    stock.left -= n;
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

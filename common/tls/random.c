/* OpenSSL draws from the kernel's generator, through common/base: its own chain of AES-CTR generators, which
 * the same kernel seeds, costs 2 µs for each of a handshake's draws. The old interface is the only one that
 * takes the place of all of them; OpenSSL 3 keeps it, though marked for the end. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/rand.h>

#include "common/base/random.h"
#include "common/tls/internal.h"

static int draw(unsigned char *out, int n)
{
    if (n < 0)
        return 0;
    random_bytes(out, (size_t)n);
    return 1;
}

static int is_ready(void)
{
    return 1;
}

bool tls_random_start(void)
{
    static const RAND_METHOD kernel = {.bytes = draw, .pseudorand = draw, .status = is_ready};
    return RAND_set_rand_method(&kernel) == 1;
}

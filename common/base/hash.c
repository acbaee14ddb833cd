/* SipHash (Aumasson and Bernstein, 2012) with c compression and d finalisation rounds: 1-3 with a secret key
 * for tables, 2-4 with a fixed key where every process must agree. */
#include "common/base/hash.h"

#include "common/base/random.h"

static uint64_t table_key[2];
static bool table_key_drawn;

static inline uint64_t rotl(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

static inline uint64_t load_le64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline void sip_rounds(uint64_t v[4], int rounds)
{
    for (; rounds > 0; rounds--) {
        v[0] += v[1];
        v[1] = rotl(v[1], 13) ^ v[0];
        v[0] = rotl(v[0], 32);
        v[2] += v[3];
        v[3] = rotl(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotl(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotl(v[1], 17) ^ v[2];
        v[2] = rotl(v[2], 32);
    }
}

static inline __attribute__((always_inline)) uint64_t siphash(struct span s, uint64_t k0, uint64_t k1, int c,
                                                              int d)
{
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
                     k1 ^ 0x7465646279746573};
    uint64_t last = (uint64_t)s.n << 56;
    size_t whole = s.n & ~(size_t)7;

    for (size_t i = 0; i < whole; i += 8) {
        uint64_t m = load_le64(s.p + i);
        v[3] ^= m;
        sip_rounds(v, c);
        v[0] ^= m;
    }
    for (size_t i = whole; i < s.n; i++)
        last |= (uint64_t)(unsigned char)s.p[i] << (8 * (i - whole));
    v[3] ^= last;
    sip_rounds(v, c);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_rounds(v, d);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline void draw_table_key(void)
{
    if (LIKELY(table_key_drawn))
        return;
    random_bytes(table_key, sizeof(table_key));
    table_key_drawn = true;
}

uint64_t hash_bytes(struct span s)
{
    draw_table_key();
    return siphash(s, table_key[0], table_key[1], 1, 3);
}

uint64_t hash_u64(uint64_t value)
{
    __uint128_t product;

    draw_table_key();
    product = (__uint128_t)(value ^ table_key[0]) * (table_key[1] | 1);
    value = (uint64_t)product ^ (uint64_t)(product >> 64);
    product = (__uint128_t)(value ^ 0x9e3779b97f4a7c15) * 0xd6e8feb86659fd93;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_stable(struct span s, uint64_t seed)
{
    return siphash(s, 0x6a61636b64617721 ^ seed, 0x736c6f7473202620, 2, 4);
}

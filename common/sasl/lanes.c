/* PBKDF2 for many passwords at once. One password's iterations depend on each other, but those of different
 * passwords do not: each lane of a 64-byte vector is another account, and every operation of the hash works
 * on all lanes. The functions are compiled for AVX-512 and AVX2 from the same lines, and the better one is
 * taken at run time; other machines go one by one. The hashes are FIPS 180-4's; test_lanes.c compares them
 * with libnettle's. */
#include <stdlib.h>

#include "common/base/random.h"
#include "common/sasl/internal.h"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3") /* debug builds too: without it this is slower than one by one */
#endif

#define VECTOR_BYTES 64
#define LANES        16 /* of 32 bits; the 64-bit hash takes two rounds of 8 */
#define INLINE       static inline __attribute__((always_inline))

typedef uint32_t u32x __attribute__((vector_size(VECTOR_BYTES)));
typedef uint64_t u64x __attribute__((vector_size(VECTOR_BYTES)));

#define ROL(x, n)    (((x) << (n)) | ((x) >> (32 - (n))))
#define ROR(x, n)    (((x) >> (n)) | ((x) << (32 - (n))))
#define ROR6(x, n)   (((x) >> (n)) | ((x) << (64 - (n))))
#define CH(x, y, z)  ((z) ^ ((x) & ((y) ^ (z))))
#define MAJ(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))

static const uint32_t k256[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static const uint64_t k512[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc, 0x3956c25bf348b538,
    0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118, 0xd807aa98a3030242, 0x12835b0145706fbe,
    0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2, 0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235,
    0xc19bf174cf692694, 0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5, 0x983e5152ee66dfab,
    0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4, 0xc6e00bf33da88fc2, 0xd5a79147930aa725,
    0x06ca6351e003826f, 0x142929670a0e6e70, 0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df, 0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30, 0xd192e819d6ef5218,
    0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8, 0x19a4c116b8d2d0c8, 0x1e376c085141ab53,
    0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8, 0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3, 0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b, 0xca273eceea26619c,
    0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178, 0x06f067aa72176fba, 0x0a637dc5a2c898a6,
    0x113f9804bef90dae, 0x1b710b35131c471b, 0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c, 0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};

static const uint32_t init1[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
static const uint32_t init256[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint64_t init512[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b,
                                    0xa54ff53a5f1d36f1, 0x510e527fade682d1, 0x9b05688c2b3e6c1f,
                                    0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};

/* The compression functions: state += f(state, w); w is used up. */
INLINE void compress_sha1(u32x *state, u32x *w)
{
    u32x a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
#pragma GCC unroll 80
    for (int t = 0; t < 80; t++) {
        if (t >= 16) {
            u32x x = w[(t - 3) & 15] ^ w[(t - 8) & 15] ^ w[(t - 14) & 15] ^ w[t & 15];
            w[t & 15] = ROL(x, 1);
        }
        u32x f = t < 20 ? CH(b, c, d) : t >= 40 && t < 60 ? MAJ(b, c, d) : b ^ c ^ d;
        uint32_t k = t < 20 ? 0x5a827999 : t < 40 ? 0x6ed9eba1 : t < 60 ? 0x8f1bbcdc : 0xca62c1d6;
        f += ROL(a, 5) + e + w[t & 15] + k;
        e = d;
        d = c;
        c = ROL(b, 30);
        b = a;
        a = f;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

#define COMPRESS_SHA2(name, vec, rounds, k, R, S1a, S1b, S1c, S0a, S0b, S0c, s1a, s1b, s1c, s0a, s0b, s0c) \
    INLINE void name(vec *state, vec *w)                                                                   \
    {                                                                                                      \
        vec a = state[0], b = state[1], c = state[2], d = state[3];                                        \
        vec e = state[4], f = state[5], g = state[6], h = state[7];                                        \
        _Pragma("GCC unroll 80") for (int t = 0; t < (rounds); t++)                                        \
        {                                                                                                  \
            if (t >= 16) {                                                                                 \
                vec x = w[(t - 2) & 15], y = w[(t - 15) & 15];                                             \
                w[t & 15] += (R(x, s1a) ^ R(x, s1b) ^ (x >> (s1c))) + w[(t - 7) & 15] +                    \
                             (R(y, s0a) ^ R(y, s0b) ^ (y >> (s0c)));                                       \
            }                                                                                              \
            vec t1 = h + (R(e, S1a) ^ R(e, S1b) ^ R(e, S1c)) + CH(e, f, g) + w[t & 15] + (k)[t];           \
            vec t2 = (R(a, S0a) ^ R(a, S0b) ^ R(a, S0c)) + MAJ(a, b, c);                                   \
            h = g;                                                                                         \
            g = f;                                                                                         \
            f = e;                                                                                         \
            e = d + t1;                                                                                    \
            d = c;                                                                                         \
            c = b;                                                                                         \
            b = a;                                                                                         \
            a = t1 + t2;                                                                                   \
        }                                                                                                  \
        state[0] += a;                                                                                     \
        state[1] += b;                                                                                     \
        state[2] += c;                                                                                     \
        state[3] += d;                                                                                     \
        state[4] += e;                                                                                     \
        state[5] += f;                                                                                     \
        state[6] += g;                                                                                     \
        state[7] += h;                                                                                     \
    }

COMPRESS_SHA2(compress_sha256, u32x, 64, k256, ROR, 6, 11, 25, 2, 13, 22, 17, 19, 10, 7, 18, 3)
COMPRESS_SHA2(compress_sha512, u64x, 80, k512, ROR6, 14, 18, 41, 28, 34, 39, 19, 61, 6, 1, 8, 7)

/* The loop of PBKDF2. keys: 16 words per lane, the passwords padded to a block; first: the block of the salt
 * and the counter, padded; sum: the result. */
#define STRETCH(name, vec, word, words, init, compress)                                        \
    INLINE void name(const vec *keys, const vec *first, uint32_t iterations, vec *sum)         \
    {                                                                                          \
        vec inner[words], outer[words], u[words], w[16];                                       \
        for (int i = 0; i < (words); i++) {                                                    \
            inner[i] = (vec){0} + (init)[i];                                                   \
            outer[i] = u[i] = inner[i];                                                        \
        }                                                                                      \
        for (int i = 0; i < 16; i++)                                                           \
            w[i] = keys[i] ^ (word)0x3636363636363636u;                                        \
        compress(inner, w);                                                                    \
        for (int i = 0; i < 16; i++)                                                           \
            w[i] = keys[i] ^ (word)0x5c5c5c5c5c5c5c5cu;                                        \
        compress(outer, w);                                                                    \
        for (int i = 0; i < (words); i++)                                                      \
            sum[i] = (vec){0};                                                                 \
        for (uint32_t round = 0; round < iterations; round++) {                                \
            for (int side = 0; side < 2; side++) {                                             \
                const vec *from = side == 0 ? inner : outer;                                   \
                for (int i = 0; i < 16; i++)                                                   \
                    w[i] = round == 0 && side == 0 ? first[i] : i < (words) ? u[i] : (vec){0}; \
                if (round > 0 || side > 0) {                                                   \
                    w[words] = (vec){0} + ((word)1 << (8 * sizeof(word) - 1));                 \
                    w[15] = (vec){0} + (word)(8 * (16 + (words)) * sizeof(word));              \
                }                                                                              \
                for (int i = 0; i < (words); i++)                                              \
                    u[i] = from[i];                                                            \
                compress(u, w);                                                                \
            }                                                                                  \
            for (int i = 0; i < (words); i++)                                                  \
                sum[i] ^= u[i];                                                                \
        }                                                                                      \
    }

STRETCH(stretch_sha1, u32x, uint32_t, 5, init1, compress_sha1)
STRETCH(stretch_sha256, u32x, uint32_t, 8, init256, compress_sha256)
STRETCH(stretch_sha512, u64x, uint64_t, 8, init512, compress_sha512)

/* The same lines for each machine. */
struct machine {
    void (*sha1)(const u32x *keys, const u32x *first, uint32_t iterations, u32x *sum);
    void (*sha256)(const u32x *keys, const u32x *first, uint32_t iterations, u32x *sum);
    void (*sha512)(const u64x *keys, const u64x *first, uint32_t iterations, u64x *sum);
};

#define MACHINE(name, attribute)                                                                             \
    attribute static void sha1_##name(const u32x *keys, const u32x *first, uint32_t iterations, u32x *sum)   \
    {                                                                                                        \
        stretch_sha1(keys, first, iterations, sum);                                                          \
    }                                                                                                        \
    attribute static void sha256_##name(const u32x *keys, const u32x *first, uint32_t iterations, u32x *sum) \
    {                                                                                                        \
        stretch_sha256(keys, first, iterations, sum);                                                        \
    }                                                                                                        \
    attribute static void sha512_##name(const u64x *keys, const u64x *first, uint32_t iterations, u64x *sum) \
    {                                                                                                        \
        stretch_sha512(keys, first, iterations, sum);                                                        \
    }                                                                                                        \
    static const struct machine name = {sha1_##name, sha256_##name, sha512_##name};

#if defined(__x86_64__)
MACHINE(avx2, __attribute__((target("avx2"))))
MACHINE(avx512, __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq"))))
#endif

/* NULL where one by one is quicker. */
static const struct machine *machine_best(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return &avx512;
    if (__builtin_cpu_supports("avx2"))
        return &avx2;
#endif
    return NULL;
}

static uint64_t big_endian(const uint8_t *p, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | p[i];
    return value;
}

/* Fills lane `lane` of a block of 16 words of word_bytes with text and zeros (pad false), or with SHA's
 * padding behind it for a message that one block went before (pad true). */
static void lane_fill(void *block, size_t word_bytes, unsigned lane, struct span text, bool pad)
{
    uint8_t bytes[128] = {0};
    if (text.n > 0)
        memcpy(bytes, text.p, text.n);
    if (pad)
        bytes[text.n] = 0x80;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t value = big_endian(bytes + i * word_bytes, word_bytes);
        if (pad && i == 15)
            value = 8 * (16 * word_bytes + text.n);
        if (word_bytes == 4)
            ((uint32_t *)block)[i * VECTOR_BYTES / 4 + lane] = (uint32_t)value;
        else
            ((uint64_t *)block)[i * VECTOR_BYTES / 8 + lane] = value;
    }
    digest_wipe(bytes, sizeof(bytes));
}

static void lane_read(const void *sum, size_t word_bytes, unsigned lane, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t word = i / word_bytes, shift = 8 * (word_bytes - 1 - i % word_bytes);
        uint64_t value = word_bytes == 4 ? ((const uint32_t *)sum)[word * VECTOR_BYTES / 4 + lane]
                                         : ((const uint64_t *)sum)[word * VECTOR_BYTES / 8 + lane];
        out[i] = (uint8_t)(value >> shift);
    }
}

void digest_stretch_many(enum digest d, unsigned n, const struct span *passwords, const uint8_t (*salts)[16],
                         uint32_t iterations, uint8_t (*out)[DIGEST_MAX_BYTES])
{
    const struct machine *machine = machine_best();
    for (unsigned i = 0; machine == NULL && i < n; i++)
        digest_stretch(d, passwords[i], span_make(salts[i], 16), iterations, out[i]);
    if (machine == NULL)
        return;
    size_t word_bytes = d == DIGEST_SHA512 ? 8 : 4, lanes = VECTOR_BYTES / word_bytes;
    _Alignas(VECTOR_BYTES) uint8_t keys[16 * VECTOR_BYTES], first[16 * VECTOR_BYTES], sum[8 * VECTOR_BYTES];
    for (unsigned from = 0; from < n; from += (unsigned)lanes) {
        unsigned count = MIN(n - from, (unsigned)lanes);
        memset(keys, 0, sizeof(keys));
        memset(first, 0, sizeof(first));
        for (unsigned i = 0; i < count; i++) {
            struct span key = passwords[from + i];
            uint8_t hashed[DIGEST_MAX_BYTES], salt[20] = {[19] = 1}; /* the counter of the only block */
            if (key.n > 16 * word_bytes) {
                digest_hash(d, key, hashed);
                key = span_make(hashed, digest_size(d));
            }
            memcpy(salt, salts[from + i], 16);
            lane_fill(keys, word_bytes, i, key, false);
            lane_fill(first, word_bytes, i, span_make(salt, sizeof(salt)), true);
            digest_wipe(hashed, sizeof(hashed));
        }
        if (d == DIGEST_SHA1)
            machine->sha1((u32x *)keys, (u32x *)first, iterations, (u32x *)sum);
        else if (d == DIGEST_SHA256)
            machine->sha256((u32x *)keys, (u32x *)first, iterations, (u32x *)sum);
        else
            machine->sha512((u64x *)keys, (u64x *)first, iterations, (u64x *)sum);
        for (unsigned i = 0; i < count; i++)
            lane_read(sum, word_bytes, i, digest_size(d), out[from + i]);
    }
    digest_wipe(keys, sizeof(keys));
    digest_wipe(sum, sizeof(sum));
}

/* At most LANES accounts. */
static void derive_some(const struct span *passwords, unsigned n, uint32_t iterations, struct sasl_keys *out,
                        bool *good)
{
    char *prepared[LANES];
    struct span texts[LANES];
    uint8_t salts[LANES][16], salted[LANES][DIGEST_MAX_BYTES];
    for (unsigned i = 0; i < n; i++) {
        prepared[i] = simple_saslprep(passwords[i]);
        good[i] = prepared[i] != NULL;
        texts[i] = span_of(prepared[i]);
        memset(&out[i], 0, sizeof(out[i]));
        out[i].iterations = iterations;
        out[i].salt_n = SASL_SALT_OWN;
        random_bytes(out[i].salt, SASL_SALT_OWN);
        memcpy(salts[i], out[i].salt, sizeof(salts[i]));
    }
    for (enum digest d = DIGEST_SHA1; d <= DIGEST_SHA512; d++) {
        digest_stretch_many(d, n, texts, (const uint8_t(*)[16])salts, iterations, salted);
        for (unsigned i = 0; i < n; i++)
            keys_set_has(&out[i], d);
        for (unsigned i = 0; i < n; i++)
            digest_keys(d, salted[i], (uint8_t *)(uintptr_t)keys_stored(&out[i], d),
                        (uint8_t *)(uintptr_t)keys_server(&out[i], d));
    }
    digest_wipe(salted, sizeof(salted));
    for (unsigned i = 0; i < n; i++) {
        if (prepared[i] != NULL)
            digest_wipe(prepared[i], strlen(prepared[i]));
        free(prepared[i]);
    }
}

void sasl_keys_derive_many(const struct span *passwords, unsigned n, uint32_t iterations,
                           struct sasl_keys *out, bool *good)
{
    CHECK(iterations > 0 && iterations <= SASL_ITERATIONS_MAX);
    for (unsigned at = 0; at < n; at += LANES)
        derive_some(passwords + at, MIN(n - at, (unsigned)LANES), iterations, out + at, good + at);
}

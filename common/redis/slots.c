/* CRC16 (XMODEM: polynomial 0x1021) as the Redis Cluster specification wants it, a nibble at a time. */
#include "common/redis/slots.h"

static unsigned crc16(struct span s)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                       0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    unsigned crc = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char byte = (unsigned char)s.p[i];
        crc = ((crc << 4) ^ table[(crc >> 12 ^ byte >> 4) & 15]) & 0xffff;
        crc = ((crc << 4) ^ table[(crc >> 12 ^ byte) & 15]) & 0xffff;
    }
    return crc;
}

unsigned redis_slot(struct span key)
{
    size_t open = span_index(key, '{');
    if (open < key.n) {
        struct span rest = span_sub(key, open + 1, key.n);
        size_t close = span_index(rest, '}');
        if (close > 0 && close < rest.n)
            key = span_sub(rest, 0, close);
    }
    return crc16(key) % REDIS_SLOTS;
}

#include "c2s/records.h"

#define HEADER 5

unsigned records_count(struct span in, uint16_t *left, uint8_t *header_n)
{
    unsigned count = 0;
    for (size_t i = 0; i < in.n;) {
        if (*header_n == HEADER && *left > 0) {
            size_t n = MIN((size_t)*left, in.n - i);
            *left = (uint16_t)(*left - n);
            i += n;
            continue;
        }
        if (*header_n == HEADER)
            *header_n = 0;
        /* The last two bytes are the length; what was shifted in before them falls out. */
        *left = (uint16_t)(*left << 8 | (uint8_t)in.p[i++]);
        count += ++*header_n == HEADER;
    }
    return count;
}

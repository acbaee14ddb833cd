/* Counts the TLS records of a byte stream by their headers (RFC 8446 §5.1), without decrypting: also new keys
 * and empty records, which bring no plain text but cost work. */
#ifndef JACKDAW_C2S_RECORDS_H
#define JACKDAW_C2S_RECORDS_H

#include "common/base/span.h"

/* How many records' headers end in what was received. *left and *header_n carry over where in a record the
 * last bytes stopped; both 0 at the beginning. */
unsigned records_count(struct span in, uint16_t *left, uint8_t *header_n);

#endif

/* Text encodings: base64, hex, JSON output. */
#ifndef JACKDAW_BASE_TEXT_H
#define JACKDAW_BASE_TEXT_H

#include "common/base/buf.h"

/* Appends base64 with padding, RFC 4648 §4. */
void base64_add(struct buf *out, struct span bytes);

/* Appends the decoded bytes. Strict, RFC 4648 §4 and RFC 6120 §6.4.1: no white space, right padding, zero
 * spare bits. False (out unchanged) on anything else. The empty input decodes to nothing. */
bool base64_decode(struct buf *out, struct span text);

/* Appends lower-case hex. */
void hex_add(struct buf *out, struct span bytes);

/* Appends the bytes of a hex string of either case; false (out unchanged) when it isn't one. */
bool hex_decode(struct buf *out, struct span text);

/* A JSON writer (RFC 8259): commas and quoting are its business. Zero-initialise but for out. */
struct json {
    struct buf *out;
    uint32_t depth;
    bool need_comma;
};

/* Opens and closes an object or array. key is NULL at the top and inside an array. */
void json_open(struct json *j, const char *key, char bracket);
void json_close(struct json *j, char bracket);

/* Adds a value. key is NULL inside an array. Text must be UTF-8; control characters are escaped. */
void json_text(struct json *j, const char *key, struct span value);
void json_u64(struct json *j, const char *key, uint64_t value);
void json_i64(struct json *j, const char *key, int64_t value);
void json_double(struct json *j, const char *key, double value);
void json_bool(struct json *j, const char *key, bool value);

#endif

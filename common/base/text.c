/* base64, hex and JSON. The decoders check the whole text before they write. */
#include "common/base/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char hex_digits[] = "0123456789abcdef";

void base64_add(struct buf *out, struct span bytes)
{
    const unsigned char *in = (const unsigned char *)bytes.p;
    char *to = buf_reserve(out, (bytes.n + 2) / 3 * 4);
    size_t n = bytes.n;

    for (; n > 0; to += 4, out->n += 4) {
        uint32_t group = (uint32_t)in[0] << 16 | (n > 1 ? (uint32_t)in[1] << 8 : 0) | (n > 2 ? in[2] : 0);
        to[0] = base64_digits[group >> 18];
        to[1] = base64_digits[group >> 12 & 63];
        to[2] = (char)(n > 1 ? base64_digits[group >> 6 & 63] : '=');
        to[3] = (char)(n > 2 ? base64_digits[group & 63] : '=');
        in += MIN(n, 3);
        n -= MIN(n, 3);
    }
}

/* Without a branch: the digits of keys and proofs are as good as random, so every third guess would be wrong.
 * Each line adds the value (plus one) if low < c < high. -1: no digit. */
static int base64_value(char c)
{
    int x = (unsigned char)c, value = -1;

    value += ((('A' - 1 - x) & (x - 'Z' - 1)) >> 8) & (x - 'A' + 1);
    value += ((('a' - 1 - x) & (x - 'z' - 1)) >> 8) & (x - 'a' + 27);
    value += ((('0' - 1 - x) & (x - '9' - 1)) >> 8) & (x - '0' + 53);
    value += ((('+' - 1 - x) & (x - '+' - 1)) >> 8) & 63;
    value += ((('/' - 1 - x) & (x - '/' - 1)) >> 8) & 64;
    return value;
}

bool base64_decode(struct buf *out, struct span text)
{
    size_t pad = 0, start = out->n;
    uint32_t bits = 0;

    if (text.n % 4 != 0)
        return false;
    while (pad < 2 && pad < text.n && text.p[text.n - 1 - pad] == '=')
        pad++;
    buf_reserve(out, text.n / 4 * 3);
    for (size_t i = 0; i < text.n; i++) {
        int value = i < text.n - pad ? base64_value(text.p[i]) : 0;
        if (value < 0) {
            out->n = start;
            return false;
        }
        bits = bits << 6 | (uint32_t)value;
        if (i % 4 != 3)
            continue;
        for (int shift = 16; shift >= 0; shift -= 8)
            out->p[out->n++] = (char)(bits >> shift & 0xff);
        bits = 0;
    }
    /* The bytes that padding stands for hold the spare bits of the last digit: they must be zero. */
    for (size_t i = 0; i < pad; i++) {
        if (out->p[out->n - 1 - i] != 0) {
            out->n = start;
            return false;
        }
    }
    out->n -= pad;
    return true;
}

void hex_add(struct buf *out, struct span bytes)
{
    char *to = buf_reserve(out, bytes.n * 2);

    for (size_t i = 0; i < bytes.n; i++) {
        to[2 * i] = hex_digits[(unsigned char)bytes.p[i] >> 4];
        to[2 * i + 1] = hex_digits[bytes.p[i] & 15];
    }
    out->n += bytes.n * 2;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool hex_decode(struct buf *out, struct span text)
{
    char *to = buf_reserve(out, text.n / 2);

    if (text.n % 2 != 0)
        return false;
    for (size_t i = 0; i < text.n; i += 2) {
        int high = hex_value(text.p[i]), low = hex_value(text.p[i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i / 2] = (char)(high << 4 | low);
    }
    out->n += text.n / 2;
    return true;
}

static void json_quote(struct buf *out, struct span s)
{
    buf_add_char(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\') {
            buf_add_char(out, '\\');
            buf_add_char(out, (char)c);
        } else if (c < 0x20 || c == 0x7f) {
            buf_addf(out, "\\u%04x", c);
        } else {
            buf_add_char(out, (char)c);
        }
    }
    buf_add_char(out, '"');
}

/* What stands before any value: the comma and the key. */
static void json_lead(struct json *j, const char *key)
{
    if (j->need_comma)
        buf_add_char(j->out, ',');
    j->need_comma = true;
    if (key != NULL) {
        json_quote(j->out, span_of(key));
        buf_add_char(j->out, ':');
    }
}

void json_open(struct json *j, const char *key, char bracket)
{
    CHECK(bracket == '{' || bracket == '[');
    json_lead(j, key);
    buf_add_char(j->out, bracket);
    j->need_comma = false;
    j->depth++;
}

void json_close(struct json *j, char bracket)
{
    CHECK(bracket == '}' || bracket == ']');
    CHECK(j->depth > 0);
    j->depth--;
    buf_add_char(j->out, bracket);
    j->need_comma = true;
}

void json_text(struct json *j, const char *key, struct span value)
{
    json_lead(j, key);
    json_quote(j->out, value);
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
    json_lead(j, key);
    buf_add_u64(j->out, value);
}

void json_i64(struct json *j, const char *key, int64_t value)
{
    json_lead(j, key);
    buf_addf(j->out, "%lld", (long long)value);
}

void json_double(struct json *j, const char *key, double value)
{
    char digits[40];

    json_lead(j, key);
    if (!isfinite(value)) { /* JSON has no such numbers */
        buf_add_lit(j->out, "null");
        return;
    }
    snprintf(digits, sizeof(digits), "%.15g", value);
    if (strtod(digits, NULL) != value)
        snprintf(digits, sizeof(digits), "%.17g", value);
    buf_add_str(j->out, digits);
}

void json_bool(struct json *j, const char *key, bool value)
{
    json_lead(j, key);
    buf_add_str(j->out, value ? "true" : "false");
}

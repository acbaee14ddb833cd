/* Escaping: runs of harmless bytes are copied whole, the others are looked up. A carriage return is escaped
 * in text too, because a reader would turn it into a line feed (XML 1.0 §2.11). */
#include "common/xml/writer.h"

static void add_escaped(struct buf *out, struct span s, const char *const *escapes)
{
    size_t start = 0;

    if (s.n == 0) /* p may be NULL */
        return;
    for (size_t i = 0; i < s.n; i++) {
        const char *escape = escapes[(unsigned char)s.p[i]];
        if (LIKELY(escape == NULL))
            continue;
        buf_add(out, s.p + start, i - start);
        buf_add_str(out, escape);
        start = i + 1;
    }
    buf_add(out, s.p + start, s.n - start);
}

void xml_add_text(struct buf *out, struct span text)
{
    static const char *const escapes[256] = {
        ['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['\r'] = "&#13;"};

    add_escaped(out, text, escapes);
}

void xml_add_value(struct buf *out, struct span value)
{
    static const char *const escapes[256] = {
        ['&'] = "&amp;",   ['<'] = "&lt;",  ['>'] = "&gt;",   ['"'] = "&quot;",
        ['\''] = "&apos;", ['\t'] = "&#9;", ['\n'] = "&#10;", ['\r'] = "&#13;"};

    add_escaped(out, value, escapes);
}

void xml_add_attr(struct buf *out, const char *name, struct span value)
{
    if (value.p == NULL)
        return;
    buf_add_char(out, ' ');
    buf_add_str(out, name);
    buf_add_lit(out, "='");
    xml_add_value(out, value);
    buf_add_char(out, '\'');
}

/* The length of the character at p[0..n), 0 when it isn't UTF-8 (RFC 3629) or not allowed (XML 1.0 §2.2). */
static size_t char_length(const unsigned char *p, size_t n)
{
    uint32_t cp;

    if (p[0] < 0x80)
        return p[0] >= 0x20 || p[0] == '\t' || p[0] == '\n' || p[0] == '\r';
    if (p[0] < 0xc2 || p[0] > 0xf4 || n < 2 || (p[1] & 0xc0) != 0x80)
        return 0;
    if (p[0] < 0xe0)
        return 2;
    if (n < 3 || (p[2] & 0xc0) != 0x80)
        return 0;
    if (p[0] < 0xf0) {
        cp = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        return cp >= 0x800 && (cp < 0xd800 || cp > 0xdfff) && cp < 0xfffe ? 3 : 0;
    }
    if (n < 4 || (p[3] & 0xc0) != 0x80)
        return 0;
    cp = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
         (p[3] & 0x3f);
    return cp >= 0x10000 && cp <= 0x10ffff ? 4 : 0;
}

bool xml_is_text(struct span s)
{
    const unsigned char *p = (const unsigned char *)s.p;
    size_t i = 0;

    while (i < s.n) {
        size_t n = char_length(p + i, s.n - i);
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

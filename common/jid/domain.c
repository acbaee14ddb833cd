/* Domainparts (RFC 7622 §3.2): IDNA2008 on libidn2.
 *
 * Strip one final dot; map as RFC 5895 §2 says (lower case, width, NFC, ideographic full stop); then judge
 * label by label: letters-digits-hyphen as it is, an A-label turned into its U-label, a U-label through
 * libidn2's registration checks (the strict ones, which include the contextual rules). When one label is
 * right-to-left, every label must keep the Bidi Rule (RFC 5893 §1.4). "[...]" is an IPv6 address. */
#include <arpa/inet.h>
#include <idn2.h>
#include <stdlib.h>
#include <unistr.h>

#include "common/jid/jid.h"
#include "common/jid/prep.h"

#define LABEL_MAX_BYTES    63
#define DNS_NAME_MAX_BYTES 253

static const char why_label[] = "a label of the domain is not letters, digits and inner hyphens";
static const char why_length[] = "a label of the domain is empty or longer than 63 bytes";
static const char why_idna[] = "a label of the domain breaks IDNA2008 (RFC 5891)";

static bool add_ip6(struct span text, struct buf *out, const char **why)
{
    char plain[INET6_ADDRSTRLEN + 1];
    struct in6_addr address;
    *why = "not an IPv6 address between the brackets";
    if (text.n < 4 || text.n - 2 >= sizeof plain || text.p[text.n - 1] != ']' ||
        memchr(text.p, 0, text.n) != NULL)
        return false;
    memcpy(plain, text.p + 1, text.n - 2);
    plain[text.n - 2] = '\0';
    if (inet_pton(AF_INET6, plain, &address) != 1)
        return false;
    inet_ntop(AF_INET6, &address, plain, sizeof plain);
    buf_addf(out, "[%s]", plain);
    return true;
}

/* The RFC 5895 mapping, freeing cp. Cherokee is the one script whose case-folded form, which IDNA2008 wants,
 * is the upper case. NULL when it can't be. */
static uint32_t *map_domain(uint32_t *cp, size_t *n)
{
    if (cp == NULL)
        return NULL;
    cp = prep_lower(cp, n);
    prep_map_width(cp, *n);
    uint32_t *nfc = prep_normalise(cp, n);
    for (size_t i = 0; nfc != NULL && i < *n; i++) {
        if (nfc[i] == 0x3002)
            nfc[i] = '.';
        else if (nfc[i] >= 0xab70 && nfc[i] <= 0xabbf)
            nfc[i] -= 0xab70 - 0x13a0;
        else if (nfc[i] >= 0x13f8 && nfc[i] <= 0x13fd)
            nfc[i] -= 8;
    }
    return nfc;
}

/* libidn2's registration checks on a U-label in mapped form; it must encode to alabel if that is given. */
static bool is_ulabel(const char *label, const char *alabel)
{
    uint8_t *encoded = NULL;
    bool good = idn2_register_u8((const uint8_t *)label, NULL, &encoded, 0) == IDN2_OK &&
                (alabel == NULL || strcmp((const char *)encoded, alabel) == 0);
    idn2_free(encoded);
    return good;
}

/* Appends an A-label's U-label when they stand for each other and the mapping leaves it alone. */
static bool add_alabel(const char *alabel, struct buf *out)
{
    char *ulabel = NULL;
    if (idn2_to_unicode_8z8z(alabel, &ulabel, IDN2_NO_TR46) != IDN2_OK)
        return false;
    struct span text = span_of(ulabel);
    size_t n = 0, mapped_n = 0;
    uint32_t *cp = prep_decode(text, &n), *mapped = map_domain(prep_decode(text, &mapped_n), &mapped_n);
    bool good = cp != NULL && mapped != NULL && n == mapped_n && memcmp(cp, mapped, n * sizeof *cp) == 0 &&
                strcmp(ulabel, alabel) != 0 && is_ulabel(ulabel, alabel);
    if (good)
        buf_add_span(out, text);
    free(cp);
    free(mapped);
    idn2_free(ulabel);
    return good;
}

static bool add_label(const uint32_t *cp, size_t n, struct buf *out, const char **why)
{
    bool ascii = true, ldh = true;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = cp[i];
        ascii = ascii && c < 0x80;
        ldh = ldh && ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-');
    }
    *why = why_length;
    if (n == 0 || n > LABEL_MAX_BYTES)
        return false;
    *why = why_label;
    if ((ascii && !ldh) || cp[0] == '-' || cp[n - 1] == '-')
        return false;
    char label[LABEL_MAX_BYTES * 4 + 1];
    size_t label_n = sizeof label - 1;
    if (u32_to_u8(cp, n, (uint8_t *)label, &label_n) != (uint8_t *)label)
        return false;
    label[label_n] = '\0';
    *why = why_idna;
    bool reserved = n >= 4 && cp[2] == '-' && cp[3] == '-';
    if (ascii && !reserved) {
        buf_add(out, label, label_n);
        return true;
    }
    if (reserved)
        return ascii && label[0] == 'x' && label[1] == 'n' && add_alabel(label, out);
    if (memchr(label, 0, label_n) != NULL || !is_ulabel(label, NULL))
        return false;
    buf_add(out, label, label_n);
    return true;
}

/* The Bidi Rule over all labels of the finished name. */
static bool bidi_holds(struct span name)
{
    size_t n = 0, start = 0;
    uint32_t *cp = prep_decode(name, &n);
    bool good = cp != NULL;
    if (good && prep_has_rtl(cp, n))
        for (size_t i = 0; good && i <= n; i++)
            if (i == n || cp[i] == '.') {
                good = prep_bidi_rule(cp + start, i - start);
                start = i + 1;
            }
    free(cp);
    return good;
}

bool domain_prepare(struct span text, struct buf *out, const char **why)
{
    if (text.p[0] == '[')
        return add_ip6(text, out, why);
    size_t n = 0, start = 0, out_start = out->n;
    uint32_t *cp = map_domain(prep_decode(text, &n), &n);
    *why = "not UTF-8";
    if (cp == NULL)
        return false;
    if (n > 1 && cp[n - 1] == '.')
        n--;
    bool good = true;
    for (size_t i = 0; good && i <= n; i++)
        if (i == n || cp[i] == '.') {
            good = add_label(cp + start, i - start, out, why);
            if (good && i < n)
                buf_add_char(out, '.');
            start = i + 1;
        }
    free(cp);
    if (good && !bidi_holds(span_make(out->p + out_start, out->n - out_start))) {
        *why = "right-to-left and left-to-right characters are mixed in the domain (RFC 5893)";
        good = false;
    }
    if (!good)
        out->n = out_start;
    return good;
}

bool jid_domain_to_ascii(struct span domain, struct buf *out)
{
    char plain[JID_PART_MAX_BYTES + 1];
    bool ascii = true;
    if (domain.n == 0 || domain.n > JID_PART_MAX_BYTES)
        return false;
    for (size_t i = 0; i < domain.n; i++) {
        if (domain.p[i] == '\0')
            return false;
        ascii = ascii && (uint8_t)domain.p[i] < 0x80;
    }
    if (ascii && domain.n <= DNS_NAME_MAX_BYTES) {
        buf_add_span(out, domain);
        return true;
    }
    memcpy(plain, domain.p, domain.n);
    plain[domain.n] = '\0';
    uint8_t *name = NULL;
    bool good = !ascii && idn2_lookup_u8((const uint8_t *)plain, &name, IDN2_NO_TR46) == IDN2_OK &&
                strlen((const char *)name) <= DNS_NAME_MAX_BYTES;
    if (good)
        buf_add_str(out, (const char *)name);
    idn2_free(name);
    return good;
}

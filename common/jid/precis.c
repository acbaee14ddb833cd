/* PRECIS (RFC 8264) on libunistring's Unicode data.
 *
 * In the order of RFC 8264 §7: width mapping, additional mapping (spaces), lower-casing, NFC, the Bidi Rule,
 * and only then the verdict on each code point. Mapping comes before the verdict, so KELVIN SIGN (U+212A) is
 * the letter k and not refused. The rules are applied until the result is stable, at most three times more.
 * Lower-casing has no context: RFC 7622 §3.5 wants U+03A3 to become U+03C3, also at the end of a word. */
#include <stdlib.h>
#include <unicase.h>
#include <unictype.h>
#include <uninorm.h>
#include <unistr.h>

#include "common/jid/prep.h"

enum verdict { PVALID, ID_DISALLOWED, CONTEXT_J, CONTEXT_O, DISALLOWED };

static const char why_utf8[] = "not UTF-8";
static const char why_context[] = "a character that is allowed only in another context (RFC 5892 appendix A)";
static const char why_bidi[] = "right-to-left and left-to-right characters are mixed (RFC 5893)";
static const char why_stable[] = "the characters have no stable form (RFC 8264 section 7)";

uint32_t *prep_decode(struct span text, size_t *n)
{
    uint32_t *cp = u8_to_u32((const uint8_t *)text.p, text.n, NULL, n);
    return cp != NULL && *n > 0 ? cp : (free(cp), NULL);
}

void prep_map_width(uint32_t *cp, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (cp[i] != 0x3000 && cp[i] < 0xff00) /* only U+3000 and the block at U+FF00 have such forms */
            continue;
        ucs4_t parts[UC_DECOMPOSITION_MAX_LENGTH];
        int tag = 0;
        if (uc_decomposition(cp[i], &tag, parts) == 1 && (tag == UC_DECOMP_WIDE || tag == UC_DECOMP_NARROW))
            cp[i] = parts[0];
    }
}

uint32_t *prep_lower(uint32_t *cp, size_t *n)
{
    uint32_t *out = xmalloc(*n * 2 * sizeof *out);
    size_t m = 0;
    for (size_t i = 0; i < *n; i++) {
        out[m++] = uc_tolower(cp[i]);
        if (cp[i] == 0x0130)
            out[m++] = 0x0307;
    }
    free(cp);
    *n = m;
    return out;
}

uint32_t *prep_normalise(uint32_t *cp, size_t *n)
{
    uint32_t *out = u32_normalize(UNINORM_NFC, cp, *n, NULL, n);
    free(cp);
    return out;
}

bool prep_has_rtl(const uint32_t *cp, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (cp[i] < 0x0590)
            continue;
        int c = uc_bidi_class(cp[i]);
        if (c == UC_BIDI_R || c == UC_BIDI_AL || c == UC_BIDI_AN)
            return true;
    }
    return false;
}

/* The six conditions of RFC 5893 §2. */
bool prep_bidi_rule(const uint32_t *cp, size_t n)
{
    int first = n > 0 ? uc_bidi_class(cp[0]) : UC_BIDI_L;
    bool rtl = first == UC_BIDI_R || first == UC_BIDI_AL;
    if (!rtl && first != UC_BIDI_L)
        return false;
    bool en = false, an = false;
    int last = first;
    for (size_t i = 0; i < n; i++) {
        int c = uc_bidi_class(cp[i]);
        switch (c) {
        case UC_BIDI_R:
        case UC_BIDI_AL:
        case UC_BIDI_AN:
            if (!rtl)
                return false;
            an = an || c == UC_BIDI_AN;
            break;
        case UC_BIDI_L:
            if (rtl)
                return false;
            break;
        case UC_BIDI_EN:
            en = true;
            break;
        case UC_BIDI_ES:
        case UC_BIDI_CS:
        case UC_BIDI_ET:
        case UC_BIDI_ON:
        case UC_BIDI_BN:
        case UC_BIDI_NSM:
            break;
        default:
            return false;
        }
        if (c != UC_BIDI_NSM)
            last = c;
    }
    if (rtl)
        return !(en && an) &&
               (last == UC_BIDI_R || last == UC_BIDI_AL || last == UC_BIDI_EN || last == UC_BIDI_AN);
    return last == UC_BIDI_L || last == UC_BIDI_EN;
}

/* Category F, exceptions (RFC 8264 §9.6, by RFC 5892 §2.6). False: not an exception. */
static bool exception(uint32_t c, enum verdict *out)
{
    switch (c) {
    case 0x00df:
    case 0x03c2:
    case 0x06fd:
    case 0x06fe:
    case 0x0f0b:
    case 0x3007:
        *out = PVALID;
        return true;
    case 0x00b7:
    case 0x0375:
    case 0x05f3:
    case 0x05f4:
    case 0x30fb:
        *out = CONTEXT_O;
        return true;
    case 0x0640:
    case 0x07fa:
    case 0x302e:
    case 0x302f:
    case 0x3031:
    case 0x3032:
    case 0x3033:
    case 0x3034:
    case 0x3035:
    case 0x303b:
        *out = DISALLOWED;
        return true;
    default:
        if ((c < 0x0660 || c > 0x0669) && (c < 0x06f0 || c > 0x06f9))
            return false;
        *out = CONTEXT_O;
        return true;
    }
}

/* Category Q (RFC 8264 §9.17): NFKC changes it. */
static bool has_compat(uint32_t c)
{
    uint32_t room[UC_DECOMPOSITION_MAX_LENGTH];
    size_t n = ARRAY_LEN(room);
    uint32_t *r = u32_normalize(UNINORM_NFKC, &c, 1, room, &n);
    bool changed = r == NULL || n != 1 || r[0] != c;
    if (r != room)
        free(r);
    return changed;
}

/* The algorithm of RFC 8264 §8. ID_DISALLOWED: not in an identifier, fine in free text. */
static enum verdict judge(uint32_t c)
{
    enum verdict v;
    if (c >= 0x21 && c <= 0x7e)
        return PVALID;
    if (exception(c, &v))
        return v;
    if (c == 0x200c || c == 0x200d)
        return CONTEXT_J;
    if ((c >= 0x1100 && c <= 0x11ff) || (c >= 0xa960 && c <= 0xa97c) || (c >= 0xd7b0 && c <= 0xd7fb))
        return DISALLOWED; /* old Hangul jamo */
    if (uc_is_property_default_ignorable_code_point(c) || uc_is_property_not_a_character(c) ||
        uc_is_general_category_withtable(c, UC_CATEGORY_MASK_Cc | UC_CATEGORY_MASK_Cn))
        return DISALLOWED;
    if (has_compat(c))
        return ID_DISALLOWED;
    const uint32_t letters = UC_CATEGORY_MASK_Ll | UC_CATEGORY_MASK_Lu | UC_CATEGORY_MASK_Lo |
                             UC_CATEGORY_MASK_Nd | UC_CATEGORY_MASK_Lm | UC_CATEGORY_MASK_Mn |
                             UC_CATEGORY_MASK_Mc;
    const uint32_t others = UC_CATEGORY_MASK_Lt | UC_CATEGORY_MASK_Nl | UC_CATEGORY_MASK_No |
                            UC_CATEGORY_MASK_Me | UC_CATEGORY_MASK_Zs | UC_CATEGORY_MASK_S |
                            UC_CATEGORY_MASK_P;
    if (uc_is_general_category_withtable(c, letters))
        return PVALID;
    return uc_is_general_category_withtable(c, others) ? ID_DISALLOWED : DISALLOWED;
}

static bool is_script(uint32_t c, const char *name)
{
    const uc_script_t *s = uc_script(c);
    return s != NULL && strcmp(s->name, name) == 0;
}

static bool any_between(const uint32_t *cp, size_t n, uint32_t low, uint32_t high)
{
    for (size_t i = 0; i < n; i++)
        if (cp[i] >= low && cp[i] <= high)
            return true;
    return false;
}

/* RFC 5892 appendix A.1: ZWNJ between cursive letters that it keeps apart. */
static bool joins_around(const uint32_t *cp, size_t n, size_t at)
{
    size_t i = at;
    int type = UC_JOINING_TYPE_T;
    while (i > 0 && type == UC_JOINING_TYPE_T)
        type = uc_joining_type(cp[--i]);
    if (type != UC_JOINING_TYPE_L && type != UC_JOINING_TYPE_D)
        return false;
    type = UC_JOINING_TYPE_T;
    for (i = at + 1; i < n && type == UC_JOINING_TYPE_T; i++)
        type = uc_joining_type(cp[i]);
    return type == UC_JOINING_TYPE_R || type == UC_JOINING_TYPE_D;
}

/* RFC 5892 appendix A, for the code point at `at`. */
static bool context_holds(const uint32_t *cp, size_t n, size_t at)
{
    uint32_t before = at > 0 ? cp[at - 1] : 0, after = at + 1 < n ? cp[at + 1] : 0;
    bool after_virama = at > 0 && uc_combining_class(before) == UC_CCC_VR;
    switch (cp[at]) {
    case 0x200c:
        return after_virama || joins_around(cp, n, at);
    case 0x200d:
        return after_virama;
    case 0x00b7:
        return before == 'l' && after == 'l';
    case 0x0375:
        return after != 0 && is_script(after, "Greek");
    case 0x05f3:
    case 0x05f4:
        return before != 0 && is_script(before, "Hebrew");
    case 0x30fb:
        for (size_t i = 0; i < n; i++)
            if (is_script(cp[i], "Hiragana") || is_script(cp[i], "Katakana") || is_script(cp[i], "Han"))
                return true;
        return false;
    default: /* Arabic-Indic digits of the two kinds don't mix */
        return cp[at] <= 0x0669 ? !any_between(cp, n, 0x06f0, 0x06f9) : !any_between(cp, n, 0x0660, 0x0669);
    }
}

static bool verdict_all(const uint32_t *cp, size_t n, bool identifier, const char **why)
{
    for (size_t i = 0; i < n; i++) {
        enum verdict v = judge(cp[i]);
        if (v == PVALID || (v == ID_DISALLOWED && !identifier) || (cp[i] == ' ' && !identifier))
            continue;
        if ((v == CONTEXT_J || v == CONTEXT_O) && context_holds(cp, n, i))
            continue;
        if (v == CONTEXT_J || v == CONTEXT_O)
            *why = why_context;
        else if (cp[i] == ' ')
            *why = "a space in the localpart (a client can write it as \\20, XEP-0106)";
        else
            *why = identifier ? "a character that PRECIS forbids in a localpart (RFC 8264 section 4.2)"
                              : "a character that PRECIS forbids in a resourcepart (RFC 8264 section 4.3)";
        return false;
    }
    return true;
}

/* RFC 7622 §3.3.1: excluded from localparts although PRECIS allows them. */
static bool has_excluded(const uint32_t *cp, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (cp[i] < 0x80 && cp[i] != 0 && strchr("\"&'/:<>@", (int)cp[i]) != NULL)
            return true;
    return false;
}

/* All mappings and checks once. NULL with *why on a refusal. */
static uint8_t *apply(struct span text, bool identifier, size_t *out_n, const char **why)
{
    size_t n = 0;
    uint32_t *cp = prep_decode(text, &n);
    *why = why_utf8;
    if (cp == NULL)
        return NULL;
    if (identifier) {
        prep_map_width(cp, n);
        cp = prep_lower(cp, &n);
    } else {
        for (size_t i = 0; i < n; i++)
            if (cp[i] > 0x7f && uc_is_general_category_withtable(cp[i], UC_CATEGORY_MASK_Zs))
                cp[i] = ' ';
    }
    cp = prep_normalise(cp, &n);
    uint8_t *out = NULL;
    if (cp == NULL)
        return NULL;
    if (identifier && prep_has_rtl(cp, n) && !prep_bidi_rule(cp, n))
        *why = why_bidi;
    else if (identifier && has_excluded(cp, n))
        *why = "one of \" & ' / : < > @ in the localpart (RFC 7622 section 3.3.1)";
    else if (!identifier && cp[0] == ' ')
        *why = "a leading space in the resourcepart (RFC 7622 section 3.5)";
    else if (verdict_all(cp, n, identifier, why))
        out = u32_to_u8(cp, n, NULL, out_n);
    free(cp);
    return out;
}

static bool enforce(struct span text, bool identifier, struct buf *out, const char **why)
{
    size_t n = 0;
    uint8_t *now = apply(text, identifier, &n, why);
    for (int again = 0; now != NULL; again++) {
        size_t next_n = 0;
        uint8_t *next = apply(span_make(now, n), identifier, &next_n, why);
        bool stable = next != NULL && span_eq(span_make(now, n), span_make(next, next_n));
        free(now);
        now = next;
        n = next_n;
        if (stable) {
            buf_add(out, now, n);
            free(now);
            return true;
        }
        if (again == 3 && now != NULL) {
            *why = why_stable;
            free(now);
            return false;
        }
    }
    return false;
}

bool precis_username(struct span text, struct buf *out, const char **why)
{
    return enforce(text, true, out, why);
}

bool precis_opaque(struct span text, struct buf *out, const char **why)
{
    return enforce(text, false, out, why);
}

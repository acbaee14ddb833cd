/* Inside the jid room: preparation of one part that is not plain ASCII. The faces of precis.c and domain.c.
 */
#ifndef JACKDAW_JID_PREP_H
#define JACKDAW_JID_PREP_H

#include "common/base/buf.h"

/* No rule that we apply shrinks text to less than a quarter, so longer input can't become a part of at most
 * 1023 bytes; it also bounds what a crafted address may cost. */
#define PREP_INPUT_MAX_BYTES 4092

/* PRECIS UsernameCaseMapped (RFC 8265 §3.3) with the exclusions of RFC 7622 §3.3.1. Appends to *out; false
 * (out unchanged) with *why set to a static sentence. Length limits are the caller's. */
bool precis_username(struct span text, struct buf *out, const char **why);

/* PRECIS OpaqueString (RFC 8265 §4.2), for resourceparts. The same rules as precis_username. */
bool precis_opaque(struct span text, struct buf *out, const char **why);

/* An IDNA2008 domain name with the mappings of RFC 5895, U-labels out (RFC 7622 §3.2), or an IP literal. The
 * same rules as precis_username. */
bool domain_prepare(struct span text, struct buf *out, const char **why);

/* Decodes UTF-8 into a malloc'ed array of *n code points; NULL when it isn't UTF-8. */
uint32_t *prep_decode(struct span text, size_t *n);

/* Replaces fullwidth and halfwidth forms by their decomposition (RFC 8264 §5.2.1), in place. */
void prep_map_width(uint32_t *cp, size_t n);

/* Lower-cases without context; frees cp and returns a new array, n changed. Only U+0130 has a full lower case
 * (two code points) that differs from the simple one. */
uint32_t *prep_lower(uint32_t *cp, size_t *n);

/* NFC; frees cp and returns a new array (NULL when it can't be), n changed. */
uint32_t *prep_normalise(uint32_t *cp, size_t *n);

/* True when a code point has Bidi class R, AL or AN. */
bool prep_has_rtl(const uint32_t *cp, size_t n);

/* The Bidi Rule of RFC 5893 §2 on one label or localpart. */
bool prep_bidi_rule(const uint32_t *cp, size_t n);

#endif

/* Follows the tags of an element that has not arrived whole, so that a wrong end tag is refused when it comes
 * and not when the element would be complete, which may be never (`<message><body>…</message>`). Only
 * elements that are split over several reads pay for it. */
#ifndef JACKDAW_XML_NESTING_H
#define JACKDAW_XML_NESTING_H

#include "common/xml/framer.h"

struct xml_nesting;

/* Looks at what is new in `partial`, the bytes of one first-level element from its start; the same start with
 * more bytes at every call. *n is NULL before the first call and made here. False when an end tag has another
 * name than the element that it should close (XML 1.0 §3, WFC: Element Type Match); other errors are the
 * framer's and the parser's. */
bool xml_nesting_follow(struct xml_nesting **n, const struct xml_limits *limits, struct span partial);

/* Frees *n (NULL is fine) and makes it NULL, for the next element. */
void xml_nesting_free(struct xml_nesting **n);

#endif

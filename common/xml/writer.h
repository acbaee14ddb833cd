/* Escaping. */
#ifndef JACKDAW_XML_WRITER_H
#define JACKDAW_XML_WRITER_H

#include "common/base/buf.h"

/* Appends text with & < > escaped / as an attribute value with & < > " ' and white space other than blank
 * escaped. */
void xml_add_text(struct buf *out, struct span text);
void xml_add_value(struct buf *out, struct span value);

/* Appends ` name='value'` escaped; nothing when value.p is NULL. */
void xml_add_attr(struct buf *out, const char *name, struct span value);

/* True when every byte sequence is UTF-8 and an XML 1.0 character. */
bool xml_is_text(struct span s);

#endif

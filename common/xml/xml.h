/* XML for streams (RFC 6120 §4, §11): the framer finds one first-level element, the parser (which owns
 * libxml2) checks it and reports where things are, the tree is for whoever needs the payload, the writer
 * escapes. */
#ifndef JACKDAW_XML_XML_H
#define JACKDAW_XML_XML_H

#include "common/xml/audit.h"
#include "common/xml/framer.h"
#include "common/xml/nesting.h"
#include "common/xml/parser.h"
#include "common/xml/tree.h"
#include "common/xml/writer.h"

#endif

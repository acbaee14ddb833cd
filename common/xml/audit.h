/* What we send, read as the peer will read it. Builds with assertions (every one but release) hold all that
 * goes to clients, servers and components against this, just before it is encrypted: nothing malformed may
 * leave, and if it would, the mistake is ours. */
#ifndef JACKDAW_XML_AUDIT_H
#define JACKDAW_XML_AUDIT_H

#include "common/base/buf.h"
#include "common/xml/parser.h"

/* The reader of one direction of a connection, over all its streams; zero-initialise. */
struct xml_audit {
    struct xml_framer framer;
    struct buf rest;           /* an element whose end has not been written yet */
    struct xml_parser *parser; /* for the content namespace of our header; shared, not owned */
    bool closed;               /* our </stream:stream> was in it: nothing may follow */
};

/* Reads more. False: no peer could read it, and a->rest begins with what is wrong. */
bool xml_audit_read(struct xml_audit *a, struct span out);

/* The same, but aborts with the bytes in the log. peer: who should have got them. */
void xml_audit(struct xml_audit *a, struct span out, const char *peer);

/* Frees what it holds; zero-initialise it before it is used again. */
void xml_audit_free(struct xml_audit *a);

#endif

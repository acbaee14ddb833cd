/* An XMPP stream without a socket (RFC 6120 §4): plain bytes in, events out; it writes headers, errors and
 * the end. Both sides, client and server namespaces. It knows nothing of features, TLS or SASL: its owner
 * decides and restarts it. */
#ifndef JACKDAW_STREAM_STREAM_H
#define JACKDAW_STREAM_STREAM_H

#include "common/base/buf.h"
#include "common/xml/xml.h"

/* The 25 conditions of RFC 6120 §4.9.3. */
enum stream_error {
    STREAM_E_BAD_FORMAT,
    STREAM_E_BAD_NAMESPACE_PREFIX,
    STREAM_E_CONFLICT,
    STREAM_E_CONNECTION_TIMEOUT,
    STREAM_E_HOST_GONE,
    STREAM_E_HOST_UNKNOWN,
    STREAM_E_IMPROPER_ADDRESSING,
    STREAM_E_INTERNAL_SERVER_ERROR,
    STREAM_E_INVALID_FROM,
    STREAM_E_INVALID_NAMESPACE,
    STREAM_E_INVALID_XML,
    STREAM_E_NOT_AUTHORIZED,
    STREAM_E_NOT_WELL_FORMED,
    STREAM_E_POLICY_VIOLATION,
    STREAM_E_REMOTE_CONNECTION_FAILED,
    STREAM_E_RESET,
    STREAM_E_RESOURCE_CONSTRAINT,
    STREAM_E_RESTRICTED_XML,
    STREAM_E_SEE_OTHER_HOST,
    STREAM_E_SYSTEM_SHUTDOWN,
    STREAM_E_UNDEFINED_CONDITION,
    STREAM_E_UNSUPPORTED_ENCODING,
    STREAM_E_UNSUPPORTED_FEATURE,
    STREAM_E_UNSUPPORTED_STANZA_TYPE,
    STREAM_E_UNSUPPORTED_VERSION,
    STREAM_E_COUNT
};

enum stream_event_kind {
    STREAM_MORE,    /* all input is consumed */
    STREAM_OPENED,  /* the peer's header; the owner answers with stream_open (receiving side) */
    STREAM_ELEMENT, /* one first-level element */
    STREAM_CLOSED,  /* </stream:stream> */
    STREAM_FAILED   /* the peer broke a rule: the owner calls stream_fail(error) and closes */
};

struct stream_event {
    enum stream_event_kind kind;
    enum stream_error error; /* FAILED */
    struct span raw;         /* ELEMENT: its bytes */
    const struct xml_element
        *element; /* OPENED, ELEMENT; valid until the next stream_next on any stream of the process */
};

enum stream_side { STREAM_RECEIVING, STREAM_INITIATING };

/* Everything that streams of one kind share. The owner may point a stream at another kind of the same
 * namespace at any time, to give it other limits (after login). */
struct stream_kind {
    const char *content_ns; /* "jabber:client", "jabber:server", "jabber:component:accept" */
    struct xml_limits limits;
    struct xml_parser *parser;       /* for content_ns */
    const struct stream_kind *other; /* a header of that one's namespace makes the stream one of its kind (a
                                        port with several protocols); NULL = none */
};

/* A stream: a few dozen bytes while idle; `partial` holds an incomplete element only. */
struct stream {
    const struct stream_kind *kind;
    struct xml_framer framer;
    struct buf partial;
    struct xml_nesting *nesting; /* of partial */
    uint8_t side;
    bool header_seen; /* the peer's */
    bool header_sent; /* ours */
    bool failed;
    bool closed_sent;
    bool closed_seen; /* the peer's </stream:stream>: whatever follows is ignored */
    bool prefix_free; /* the peer's root is <stream>, of the default namespace (RFC 6120 §4.8.2) */
    bool qualified;   /* its header has no content namespace as default: each element declares its own */
    uint8_t version;  /* the peer's major version; 0 = none (pre-1.0) */
};

/* Prepares a stream (embedded in its owner). kind must outlive it. */
void stream_init(struct stream *s, const struct stream_kind *kind, enum stream_side side);

/* Makes it expect a new header, after TLS and SASL (RFC 6120 §4.3.3): an incomplete element of the old stream
 * is dropped. */
void stream_restart(struct stream *s);

/* Frees what is held inside; the stream must be initialised before it is used again. */
void stream_free(struct stream *s);

/* Takes the next event from *in (consumed bytes are cut from its front; an incomplete element is kept
 * inside). Call until STREAM_MORE. What the event borrows is valid until the next call on this stream resp.
 * (element) on any. After a restart the owner must drop what is left of *in when the step demands it (after
 * <proceed/>: RFC 6120 §5.4.3.3). Checked here: XML and limits (§11, §13.12), the header's names, namespaces
 * and version (§4.7.5, §4.8), first-level elements of a foreign content namespace or with a prefix for the
 * own one (§4.8.3, §4.8.5). Both styles of §4.8.2 are taken; in the one without a default content namespace
 * an element that declares none is of the stream's namespace, or of none. White space between elements is
 * taken silently (§4.6.1), all input after STREAM_CLOSED and STREAM_FAILED too. */
struct stream_event stream_next(struct stream *s, struct span *in);

struct stream_header {
    struct span from, to, id, lang; /* n 0 = left out */
    bool version;                   /* version='1.0' */
};

/* Appends our header, with the XML declaration (RFC 6120 §4.7, §11.5). On server streams it binds `db` too
 * (XEP-0220). */
void stream_open(struct stream *s, const struct stream_header *header, struct buf *out);

/* Appends a stream error, preceded by our header when it has not been sent (RFC 6120 §4.9.1.2), followed by
 * </stream:stream>. text and app (an application-specific element, raw) may be NULL. Once only; later calls
 * do nothing. */
void stream_fail(struct stream *s, const struct stream_header *header, enum stream_error error,
                 const char *text, const char *app, struct buf *out);

/* Appends </stream:stream> once (a header before it when none was sent). */
void stream_close(struct stream *s, struct buf *out);

/* stream_fail with <see-other-host/> (RFC 6120 §4.9.3.19); host_port is "host", "host:port" or "[v6]:port".
 */
void stream_redirect(struct stream *s, const struct stream_header *header, const char *host_port,
                     struct buf *out);

/* "not-well-formed" and the like (RFC 6120 §4.9.3). */
const char *stream_error_name(enum stream_error error);

/* And back; an unknown name gives undefined-condition. */
enum stream_error stream_error_parse(struct span name);

/* The stream error for a refused piece of XML. */
enum stream_error stream_error_of_xml(enum xml_error error);

#endif

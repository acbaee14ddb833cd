/* Stanzas (RFC 6120 §8): kinds and types, the index that travels with the raw bytes, replies and errors. */
#ifndef JACKDAW_STANZA_STANZA_H
#define JACKDAW_STANZA_STANZA_H

#include "common/jid/jid.h"
#include "common/stanza/ns.h"
#include "common/xml/xml.h"

enum stanza_kind { STANZA_MESSAGE, STANZA_PRESENCE, STANZA_IQ };

enum stanza_type {
    STANZA_NONE, /* no type attribute: message normal, presence available */
    STANZA_NORMAL,
    STANZA_CHAT,
    STANZA_GROUPCHAT,
    STANZA_HEADLINE,
    STANZA_ERROR,
    STANZA_UNAVAILABLE,
    STANZA_SUBSCRIBE,
    STANZA_SUBSCRIBED,
    STANZA_UNSUBSCRIBE,
    STANZA_UNSUBSCRIBED,
    STANZA_PROBE,
    STANZA_GET,
    STANZA_SET,
    STANZA_RESULT,
    STANZA_TYPE_COUNT
};

#define STANZA_CHILDREN_MAX XML_CHILDREN_MAX

/* One stanza: raw bytes and where things are in them. `raw` is self-contained: no namespace is inherited but
 * the stream's default (jabber:client and jabber:server are the same to it) and the start tag begins
 * "<message", "<presence" or
 * "<iq" without prefix or xmlns. All spans borrow from the frame that brought them. The addresses are
 * prepared. */
struct stanza {
    enum stanza_kind kind;
    enum stanza_type type;
    struct span raw;
    struct jid from; /* domain_n 0 = none */
    struct jid to;   /* domain_n 0 = none */
    struct span id;  /* decoded; p NULL = none */
    struct span lang;
    struct xml_child children[STANZA_CHILDREN_MAX];
    uint16_t child_count; /* indexed ones */
};

/* "message", "presence", "iq"; "chat", "" for none. */
const char *stanza_kind_name(enum stanza_kind kind);
const char *stanza_type_name(enum stanza_type type);

/* The kind of an element of the stream's namespace; false: not a stanza. */
bool stanza_kind_parse(struct span name, enum stanza_kind *out);

/* The type of a stanza. A message type that is not known is normal (RFC 6121 §5.2.2); false for a wrong
 * presence or iq type. value.p NULL = none. */
bool stanza_type_parse(enum stanza_kind kind, struct span value, enum stanza_type *out);

/* The first child of that name and namespace (NULL = any), or NULL. */
const struct xml_child *stanza_child(const struct stanza *s, const char *name, const char *ns);

/* The first element child, the payload of an iq, or NULL. */
const struct xml_child *stanza_payload(const struct stanza *s);

/* The bytes of a child. */
struct span stanza_child_raw(const struct stanza *s, const struct xml_child *child);

/* Why a received stanza is refused before it is routed. */
enum stanza_verdict {
    STANZA_GOOD,
    STANZA_NOT_A_STANZA, /* → <unsupported-stanza-type/> */
    STANZA_BAD_TO,       /* → jid-malformed */
    STANZA_BAD_IQ,       /* → bad-request: id, type, number of children (RFC 6120 §8.2.3) */
    STANZA_BAD_TYPE,     /* → bad-request */
    STANZA_BAD_FROM      /* not stamped, but the peer's own, or none: forged or not, its owner must see */
};

/* Rewrites a parsed element as the raw form above, appending to *out: one pass over the start tag (from
 * stamped when from.p is not NULL; else the sender's own kept; xmlns dropped; xml:lang added from
 * default_lang when missing, RFC 6120 §4.7.4; an empty to, from, id or type counts as none and is dropped),
 * the content byte for byte. stanza->raw and all spans point
 * into *out (so *out must not grow after), the prepared `to` follows the raw bytes there. On a refusal
 * *stanza holds what is known (kind, type, id) for the error. */
enum stanza_verdict stanza_rewrite(const struct xml_element *e, struct span element, struct span from,
                                   struct span default_lang, struct buf *out, struct stanza *stanza);

/* RFC 6120 §8.3.3, all 22 conditions. */
enum stanza_error {
    STANZA_E_BAD_REQUEST,
    STANZA_E_CONFLICT,
    STANZA_E_FEATURE_NOT_IMPLEMENTED,
    STANZA_E_FORBIDDEN,
    STANZA_E_GONE,
    STANZA_E_INTERNAL_SERVER_ERROR,
    STANZA_E_ITEM_NOT_FOUND,
    STANZA_E_JID_MALFORMED,
    STANZA_E_NOT_ACCEPTABLE,
    STANZA_E_NOT_ALLOWED,
    STANZA_E_NOT_AUTHORIZED,
    STANZA_E_POLICY_VIOLATION,
    STANZA_E_RECIPIENT_UNAVAILABLE,
    STANZA_E_REDIRECT,
    STANZA_E_REGISTRATION_REQUIRED,
    STANZA_E_REMOTE_SERVER_NOT_FOUND,
    STANZA_E_REMOTE_SERVER_TIMEOUT,
    STANZA_E_RESOURCE_CONSTRAINT,
    STANZA_E_SERVICE_UNAVAILABLE,
    STANZA_E_SUBSCRIPTION_REQUIRED,
    STANZA_E_UNDEFINED_CONDITION,
    STANZA_E_UNEXPECTED_REQUEST,
    STANZA_E_COUNT
};

/* "bad-request"; its recommended error type, "modify". */
const char *stanza_error_name(enum stanza_error error);
const char *stanza_error_type(enum stanza_error error);

/* True when an error may be sent back: never for an error, an iq result, or presence but subscription
 * requests and directed ones (RFC 6120 §8.3.1, 6121 §8). */
bool stanza_may_error(const struct stanza *s);

/* The same for a stanza that its own client has sent and that is refused before it is routed: whatever
 * presence it is, nobody else hears of it, so its sender must (RFC 6121 §4.7.1). */
bool stanza_may_refuse(const struct stanza *s);

/* Appends the error reply: kind and id kept, addresses swapped (from: the stanza's `to`, or own_bare when it
 * had none), type error, the condition, and text when not NULL. The original payload is not included. */
void stanza_add_error(struct buf *out, const struct stanza *s, struct span own_bare, enum stanza_error error,
                      const char *text);

/* What an application adds to an error (RFC 6120 §8.3.4), both static, NULL = nothing: another type than the
 * condition's own, and an element behind it, raw with its namespace. */
struct stanza_error_extra {
    const char *type;
    const char *element;
};
void stanza_add_error_with(struct buf *out, const struct stanza *s, struct span own_bare,
                           enum stanza_error error, const char *text, struct stanza_error_extra extra);

/* Appends "<iq type='result' …" with swapped addresses up to ">" resp. the whole empty result. After _open
 * the caller adds the payload and "</iq>". */
void stanza_add_result_open(struct buf *out, const struct stanza *iq, struct span own_bare);
void stanza_add_result(struct buf *out, const struct stanza *iq, struct span own_bare);

/* Appends "<delay xmlns='urn:xmpp:delay' from='…' stamp='…'/>" (XEP-0203). */
void stanza_add_delay(struct buf *out, struct span from, uint64_t wall_ms);

/* Indexes a raw stanza that our own code has built (errors, pushes, probes): raw must be in the raw form
 * above, with prepared addresses. False when it isn't. parser must be one for jabber:client. Spans point into
 * raw; decoded values that differ from the raw bytes into the parser's scratch, valid until its next use. */
bool stanza_index(struct xml_parser *parser, struct span raw, struct stanza *out);

#endif

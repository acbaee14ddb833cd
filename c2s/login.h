/* Inside the session: the state of a login and the element handlers of the session's files. */
#ifndef JACKDAW_C2S_LOGIN_H
#define JACKDAW_C2S_LOGIN_H

#include "c2s/session.h"

/* Everything that only a session without a resource needs; freed when bound. */
struct login {
    struct sasl *sasl;       /* the exchange under way, or NULL */
    struct buf answer;       /* of the exchange, decoded */
    struct buf id;           /* of the bind or register iq that waits for its answer */
    struct buf sm_id;        /* of the <resume/> that waits */
    struct span client_from; /* owned copy of the header's from, prepared bare; p NULL = none */
    char *username;          /* registration: the bare JID asked for */
    uint8_t mech;
    uint8_t auth_failures;
    uint8_t bind_failures;
    uint8_t misfits;
    uint8_t registered; /* accounts made */
    bool disabled;      /* the account is locked */
    bool looked_up;     /* the exchange under way has got as far as the account */
};

/* The one place where a session changes its state; traced. */
void session_enter(struct session *s, enum session_state to);

/* An element for one of the files; e and raw as from stream_next. */
void auth_element(struct session *s, const struct xml_element *e, struct span raw);
void bind_element(struct session *s, const struct xml_element *e, struct span raw);
void sm_element(struct session *s, const struct xml_element *e, struct span raw);

/* The same before login, where it is refused. */
void sm_too_early(struct session *s, const struct xml_element *e, struct span raw);

/* Before our closing tag: tells h once more unless the client has heard that all it sent is safe. */
void sm_last_ack(struct session *s);
void register_element(struct session *s, const struct xml_element *e, struct span raw);

/* Appends <stream:features/> for the state of the session. */
void features_write(struct session *s);

/* Appends <mechanisms/> and the channel-binding types (XEP-0440). */
void auth_write_features(struct session *s);

/* Appends an iq result or error to the client's own iq, without addresses. id.p NULL: no id. */
void bind_write_error(struct session *s, struct span id, enum stanza_error error, const char *text);

/* Drops the exchange under way. */
void auth_drop(struct session *s);

/* Frees the login state. */
void login_free(struct session *s);

#endif

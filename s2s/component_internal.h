/* What component.c (which connection gets a stanza), component_conn.c (XEP-0114 and what all connections
 * share) and component_bind.c (XEP-0225) share. */
#ifndef JACKDAW_S2S_COMPONENT_INTERNAL_H
#define JACKDAW_S2S_COMPONENT_INTERNAL_H

#include "common/member/member.h"
#include "common/sasl/sasl.h"
#include "s2s/component.h"
#include "s2s/leg.h"
#include "s2s/s2s.h"

/* A process that has connections of it. */
struct place {
    char node[MEMBER_NAME_MAX + 1];
    uint64_t incarnation;
};

#define COMPONENT_HEARD_MAX 64

struct component {
    struct list node;
    struct s2s *s2s;
    struct local local;
    char *secret;
    struct sasl_keys *keys; /* of the secret, made at the first use */
    struct list bindings;   /* connections that speak for it, struct binding.of_component */
    struct queue waiting;
    struct place *places;
    unsigned place_count;
    uint64_t gone_ms; /* the last connection, here or elsewhere, went then; 0 = there was none */
    /* One with presence:roster (XEP-0356) hears of a contact from each of our users that has it: hashes of
     * what it was told lately, so that it is told once. */
    bool hears;
    unsigned heard_at;
    struct {
        uint64_t hash;
        uint64_t at_ms;
    } heard[COMPONENT_HEARD_MAX];
    bool told; /* Redis knows that there are connections here */
};

/* A connection speaks for a component: one with XEP-0114, any number with XEP-0225. */
struct binding {
    struct list of_component;
    struct list of_conn;
    struct component *component;
    struct component_conn *conn;
};

struct component_conn {
    struct leg leg;
    struct list bindings;           /* struct binding.of_conn */
    struct component *component;    /* XEP-0114: of the header; XEP-0225: who has logged in */
    struct limits_address *address; /* against which it counts, until it has logged in */
    struct sasl *sasl;              /* XEP-0225: an exchange under way */
    unsigned failures;              /* of SASL */
    uint8_t mech;                   /* of that */
    bool ready;                     /* logged in */
};

/* component.c: a connection begins / ceases to speak for a component. After the last component_left, what it
 * had not acknowledged is taken back item by item, then component_settle tells the others and sends on. */
void component_arrived(struct binding *b);
void component_left(struct binding *b);
void component_take_back(struct component *c, struct item *i);
void component_settle(struct component *c);

/* component.c: writes what waits while there is room. */
void component_pump(struct component *c);

/* component_conn.c: the domain of ours that a stream header is to, NULL when it is none. Our own header will
 * be from the same name. */
struct local *component_header_to(struct leg *l, const struct xml_element *header);

/* component_conn.c: the peer has proven who it is. */
void component_logged_in(struct component_conn *conn);

/* component_conn.c: the connection speaks for the component from here on. */
void component_bind(struct component_conn *conn, struct component *c);
void component_unbind(struct binding *b);

/* The connection's binding to a component, or NULL. */
struct binding *component_binding(const struct component_conn *conn, const struct component *c);

/* component_bind.c: the steps of XEP-0225. on_bind_stanza: true when the iq was for the stream itself. */
void component_bind_opened(struct component_conn *conn, const struct xml_element *header);
bool component_bind_element(struct component_conn *conn, const struct xml_element *e, struct span raw);
bool component_bind_stanza(struct component_conn *conn, const struct xml_element *e, struct span raw);

#endif

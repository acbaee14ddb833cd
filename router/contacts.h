/* Roster and subscription rules (RFC 6121 §2, §3, appendix A). Rules only: features/roster.c, subscription.c
 * and presence.c call them and send what they say. */
#ifndef JACKDAW_ROUTER_CONTACTS_H
#define JACKDAW_ROUTER_CONTACTS_H

#include "router/user.h"

/* Subscription bits. The nine states of appendix A are combinations of them. */
enum {
    CONTACT_TO = 1,          /* we see the contact's presence */
    CONTACT_FROM = 2,        /* the contact sees ours */
    CONTACT_PENDING_OUT = 4, /* we have asked */
    CONTACT_PENDING_IN = 8,  /* the contact has asked */
    CONTACT_PREAPPROVED = 16 /* we have said yes before being asked (§3.4) */
};

struct contact {
    char *jid;     /* owned, bare; the map's key */
    char *name;    /* owned; NULL = none */
    char **groups; /* owned, group_count */
    uint16_t group_count;
    uint8_t state;         /* CONTACT_… bits */
    bool in_roster;        /* false: known only because of a pending request (§3.1.3: not shown) */
    uint64_t version;      /* roster version of the last change */
    struct rcbuf *request; /* the whole subscribe stanza while PENDING_IN */
};

/* Loads the contacts of a user from its record fields. */
void contacts_load(struct user *u, const struct store_field *fields, size_t count);
void contacts_free(struct user *u);

/* The contact of a bare JID, or NULL; made when missing. */
struct contact *contacts_find(struct user *u, struct span bare);
struct contact *contacts_get(struct user *u, struct span bare);

/* Writes a contact after a change, with a new roster version; removes it. Both go with this turn's batch. */
void contacts_save(struct user *u, struct contact *contact);
void contacts_remove(struct user *u, struct contact *contact);

/* Appends <item jid=… subscription=… …/> as in a roster result or push (§2.1.2). */
void contacts_add_item(struct buf *out, const struct contact *contact);

/* What a subscription stanza does to a state (appendix A): outbound from our user, inbound from the contact.
 */
struct contact_change {
    uint8_t state;          /* the new one */
    bool route;             /* outbound: send it on; inbound: deliver it to the user's sessions */
    bool push;              /* the roster item changed visibly */
    bool auto_subscribed;   /* inbound subscribe: answer `subscribed` on the user's behalf */
    bool auto_unsubscribed; /* inbound unsubscribe: answer `unsubscribed` (§3.3.3) */
    bool send_presence;     /* the contact now sees us: send it our presence */
    bool send_unavailable;  /* the contact no longer sees us */
};
struct contact_change contacts_outbound(uint8_t state, enum stanza_type type);
struct contact_change contacts_inbound(uint8_t state, enum stanza_type type);

/* "none", "to", "from", "both". */
const char *contacts_subscription(uint8_t state);

#endif

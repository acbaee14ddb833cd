/* Roster and subscription rules (RFC 6121 §2, §3, appendix A). Rules only: feature/roster.c, subscription.c
 * and presence.c call them and send what they say. */
#ifndef JACKDAW_ROUTER_CONTACTS_H
#define JACKDAW_ROUTER_CONTACTS_H

#include "common/base/arena.h"
#include "router/user.h"

/* Subscription bits. The nine states of appendix A are combinations of them. */
enum {
    CONTACT_TO = 1,          /* we see the contact's presence */
    CONTACT_FROM = 2,        /* the contact sees ours */
    CONTACT_PENDING_OUT = 4, /* we have asked */
    CONTACT_PENDING_IN = 8,  /* the contact has asked */
    CONTACT_PREAPPROVED = 16 /* we have said yes before being asked (§3.4) */
};

#define CONTACT_NAME_MAX_BYTES  1023
#define CONTACT_GROUP_MAX_BYTES 1023
#define CONTACT_GROUPS_MAX      64

struct contact {
    char *jid;     /* owned, bare; the map's key */
    char *name;    /* owned; NULL = none */
    char **groups; /* owned, group_count */
    uint16_t group_count;
    uint8_t state;         /* CONTACT_… bits */
    bool in_roster;        /* false: known only because of a pending request (§3.1.3: not shown) */
    uint64_t version;      /* roster version of the last change */
    uint32_t shown_bytes;  /* of the item as clients get it, 0 = to be computed */
    struct rcbuf *request; /* the whole subscribe stanza while PENDING_IN */
};

/* Loads the contacts of a user from its record fields; what cannot be read is logged and left out. Raises
 * u->roster_version (set before from STORE_META "roster_version") to the highest one seen. */
void contacts_load(struct user *u, const struct store_field *fields, size_t count);
void contacts_free(struct user *u);

/* The contact of a bare JID, or NULL; made when missing (not yet in the roster, not yet saved). */
struct contact *contacts_find(struct user *u, struct span bare);
struct contact *contacts_get(struct user *u, struct span bare);

/* True when the owner of a bare JID may see the user's presence: the user, or a contact with CONTACT_FROM. */
bool contacts_may_see(struct user *u, struct span bare);

/* The number of items in the roster / of requests that wait for the user's answer. */
size_t contacts_roster_count(const struct user *u);
size_t contacts_request_count(const struct user *u);

/* The bytes of all items as clients get them, escaped; and the most that one item may have. */
size_t contacts_roster_bytes(struct user *u);
size_t contacts_item_bytes(struct span jid, struct span name, const struct span *groups, size_t group_count);

/* True when the roster has room for an item with that name and groups, in place of the present one of that
 * JID if there is one (limits.roster_items, limits.roster_bytes). What makes it smaller always has. */
bool contacts_have_room(struct user *u, struct span jid, struct span name, const struct span *groups,
                        size_t group_count);

/* Replaces name (p NULL or empty = none) and groups. Copies. */
void contacts_set_name(struct contact *contact, struct span name);
void contacts_set_groups(struct contact *contact, const struct span *groups, size_t count);

/* Writes a contact after a change, with a new roster version when it is in the roster; removes it (freed).
 * Both go with this turn's batch. */
void contacts_save(struct user *u, struct contact *contact);
void contacts_remove(struct user *u, struct contact *contact);

/* Writes a contact whose change does not show in the roster (a pending request): the version stays. */
void contacts_save_hidden(struct user *u, struct contact *contact);

/* For a change that the store may refuse (STORE_FULL): the contact's record as it is now, in the arena (p
 * NULL = there is none); and back to it, in memory only. Pointers to the contact are void after. */
struct span contacts_remember(struct user *u, struct span bare, struct arena *arena);
void contacts_restore(struct user *u, struct span bare, struct span record);

/* Appends <item jid=… subscription=… …/> as in a roster result or push (§2.1.2). */
void contacts_add_item(struct buf *out, const struct contact *contact);

/* Appends a whole roster push in raw form (§2.1.6) with the user's roster version; removed: the contact's jid
 * with subscription='remove'. */
void contacts_add_push(struct buf *out, const struct user *u, const struct contact *contact);
void contacts_add_push_removed(struct buf *out, const struct user *u, struct span jid);

/* The record of a contact as it is kept in the store, without the jid. Appends to *out. */
void contacts_write(struct buf *out, const struct contact *contact);

/* Reads a record into *out (all but jid; owned by the caller, contact_clear releases it). Strict: false for
 * any text that contacts_write does not make; *out is zero then. */
bool contacts_parse(struct span text, struct contact *out);
void contact_clear(struct contact *contact);

/* What a subscription stanza does to a state (appendix A): outbound from our user, inbound from the contact.
 * Any other type changes nothing. */
struct contact_change {
    uint8_t state;          /* the new one */
    bool route;             /* outbound: send it on; inbound: deliver it to the user's sessions */
    bool push;              /* the roster item changed visibly */
    bool auto_subscribed;   /* inbound subscribe: answer `subscribed` on the user's behalf */
    bool auto_unsubscribed; /* inbound unsubscribe: answer `unsubscribed` (A.3.2) */
    bool send_presence;     /* the contact now sees us: send it our presence */
    bool send_unavailable;  /* the contact no longer sees us */
};
struct contact_change contacts_outbound(uint8_t state, enum stanza_type type);
struct contact_change contacts_inbound(uint8_t state, enum stanza_type type);

/* The state without what contradicts itself (pending beside granted) and without unknown bits. */
uint8_t contacts_normal_state(uint8_t state);

/* "none", "to", "from", "both". */
const char *contacts_subscription(uint8_t state);

#endif

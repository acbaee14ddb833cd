/* The names of all keys in Redis. Nobody else spells a key. All keys of one user share the hash tag
 * {bare-jid}, so that they live on one node of a Redis Cluster and one function may touch them together. '%'
 * and '}' inside a JID are written %25 and %7d, so that the tag is always the whole JID. */
#ifndef JACKDAW_REDIS_KEYS_H
#define JACKDAW_REDIS_KEYS_H

#include "common/base/buf.h"

/* u:{jid}:owner - text, the claim of its router: "EPOCH:NAME:INCARNATION" (functions.lua).
 * u:{jid}:account - hash: scram, disabled, created (account.h).
 * u:{jid}:roster - hash: contact's bare JID -> item.
 * u:{jid}:sessions - hash: session id -> record.
 * u:{jid}:mailbox - stream, the ordered log of messages.
 * u:{jid}:meta - hash: everything small.
 * Each writes the key of a prepared bare JID into *store (emptied first) and returns it, valid until the
 * store's next change. */
struct span key_owner(struct buf *store, struct span bare_jid);
struct span key_account(struct buf *store, struct span bare_jid);
struct span key_roster(struct buf *store, struct span bare_jid);
struct span key_sessions(struct buf *store, struct span bare_jid);
struct span key_mailbox(struct buf *store, struct span bare_jid);
struct span key_meta(struct buf *store, struct span bare_jid);

/* u:{jid}:NAME - further keys of a user, for features (vcard, ...). As above. */
struct span key_user(struct buf *store, struct span bare_jid, struct span name);

/* All six in the order that jd_claim takes. Zero-initialise; the spans stay valid until the next
 * user_keys_make or user_keys_free. */
struct user_keys {
    struct span owner, account, roster, sessions, mailbox, meta;
    struct buf store;
};
void user_keys_make(struct user_keys *k, struct span bare_jid);
void user_keys_free(struct user_keys *k);

/* Reads the bare JID out of a key "u:{jid}:NAME" into *jid (emptied first). False when it is no such key. */
bool key_user_parse(struct span key, struct span name, struct buf *jid);

/* Appends the glob pattern for SCAN that finds the accounts of a domain, or all (domain empty). */
void key_account_pattern(struct buf *out, struct span domain);

/* Membership: the number of keys and the keys, as every jd_member_* function takes them. */
#define KEY_CLUSTER SPAN("jd:{cluster}:members")
#define KEYS_CLUSTER                                                                                  \
    SPAN("4"), SPAN("jd:{cluster}:members"), SPAN("jd:{cluster}:leases"), SPAN("jd:{cluster}:epoch"), \
        SPAN("jd:{cluster}:suspects")

/* "jd:{cluster}:component:DOMAIN" - hash: name of an s2s process with connections of that component -> its
 * incarnation. Written into *store as above. */
struct span key_component(struct buf *store, struct span domain);

/* "jd:{slot-N}:present" - hash: bare JID of slot N with sessions -> the claim under which it was entered. Who
 * takes a slot over finds here whom nobody else will mention (their connection managers died too). Written
 * into *store as above. */
struct span key_present(struct buf *store, uint16_t slot);

/* "jd:{cluster}:s2s" - hash: "NAME:INCARNATION" of an s2s process -> "open", "dying" or "done:MS"
 * (s2s/estate.h). */
#define KEY_S2S SPAN("jd:{cluster}:s2s")

/* "jd:{cluster}:s2s-handed:NAME:INCARNATION" - text: identities, 8 bytes each, of the stanzas that a dead s2s
 * process has handed over. Written into *store as above. */
struct span key_s2s_handed(struct buf *store, struct span process);

/* "jd:{s2s-DOMAIN}:tail" - list: what a remote domain may send again. Written into *store as above. */
struct span key_s2s_tail(struct buf *store, struct span domain);

/* "jd:s2s-session:ID" - text: an incoming server stream that broke and may be resumed (s2s/resume.c). Written
 * into *store as above. */
struct span key_s2s_session(struct buf *store, struct span id);

/* The channel on which an s2s process says which of those a peer wants to resume or has resumed
 * (s2s/resume.c). */
#define CHANNEL_S2S_RESUME SPAN("jd:s2s-resume")

/* The channel on which a change of the processes of a component is published (the message is the domain). */
#define CHANNEL_COMPONENTS SPAN("jd:components")

/* The channel on which a new epoch is published (as decimal text). */
#define CHANNEL_EPOCH SPAN("jd:epoch")

/* Secrets that all nodes share: text "jd:{cluster}:secret:NAME" (SCRAM's seed for unknown users, TLS ticket
 * keys). Made by the first that needs it: SET ... NX GET. */
#define KEY_SECRET(name) SPAN("jd:{cluster}:secret:" name)

#endif

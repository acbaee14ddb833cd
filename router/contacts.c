/* The roster of a user in memory and in the store.
 *
 * One record per contact in the hash STORE_ROSTER, field = bare JID:
 *   "1 STATE SHOWN VERSION" then any of " nLEN:name", " gLEN:group", " rLEN:request", in this order.
 * The roster version is a number that never comes twice, also when Redis lost its last second or the account
 * was deleted and made anew: the wall clock in ms, or the last version plus one if that is more. Each change
 * writes it to STORE_META "roster_version" in the same batch, because a removal leaves no record to carry
 * it. */
#include "router/contacts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log/log.h"
#include "common/xml/writer.h"

#define VERSION_FIELD SPAN("roster_version")

void contact_clear(struct contact *contact)
{
    contacts_set_groups(contact, NULL, 0);
    free(contact->jid);
    free(contact->name);
    rcbuf_unref(contact->request);
    *contact = (struct contact){0};
}

static void contact_free(struct contact *contact)
{
    contact_clear(contact);
    free(contact);
}

/* ---- the record ---- */

static void add_part(struct buf *out, char kind, struct span value)
{
    buf_addf(out, " %c%zu:", kind, value.n);
    buf_add_span(out, value);
}

void contacts_write(struct buf *out, const struct contact *contact)
{
    buf_addf(out, "1 %u %u %" PRIu64, contact->state, contact->in_roster ? 1 : 0, contact->version);
    if (contact->name != NULL)
        add_part(out, 'n', span_of(contact->name));
    for (unsigned i = 0; i < contact->group_count; i++)
        add_part(out, 'g', span_of(contact->groups[i]));
    if (contact->request != NULL)
        add_part(out, 'r', rcbuf_span(contact->request));
}

/* Takes the word up to the next blank (or the end) from the front of *text. */
static bool take_number(struct span *text, uint64_t max, uint64_t *out)
{
    size_t n = span_index(*text, ' ');
    struct span word = span_sub(*text, 0, n);
    *text = span_sub(*text, n, text->n);
    /* One spelling only, so that a record has one form. */
    return span_to_u64(word, max, out) && (word.n == 1 || word.p[0] != '0');
}

static bool take_blank(struct span *text)
{
    if (text->n == 0 || text->p[0] != ' ')
        return false;
    *text = span_sub(*text, 1, text->n);
    return true;
}

/* Takes " KLEN:bytes" from the front. */
static bool take_part(struct span *text, char *kind, struct span *value)
{
    if (!take_blank(text) || text->n == 0)
        return false;
    *kind = text->p[0];
    *text = span_sub(*text, 1, text->n);
    size_t n = span_index(*text, ':');
    struct span word = span_sub(*text, 0, n);
    uint64_t length;
    if (n == text->n || !span_to_u64(word, text->n - n - 1, &length) || (word.n > 1 && word.p[0] == '0'))
        return false;
    *value = span_sub(*text, n + 1, (size_t)length);
    *text = span_sub(*text, n + 1 + (size_t)length, text->n);
    return true;
}

static bool parse_parts(struct span text, struct contact *out)
{
    struct span groups[CONTACT_GROUPS_MAX];
    size_t group_count = 0;
    char last = 0;
    while (text.n > 0) {
        char kind;
        struct span value;
        if (!take_part(&text, &kind, &value))
            return false;
        /* C strings inside: no NUL; the XML that they came from had none either. */
        if (kind != 'r' && (memchr(value.p, 0, value.n) != NULL || value.n == 0))
            return false;
        if (kind == 'n' && last == 0 && value.n <= CONTACT_NAME_MAX_BYTES)
            out->name = span_dup(value);
        else if (kind == 'g' && last != 'r' && group_count < CONTACT_GROUPS_MAX &&
                 value.n <= CONTACT_GROUP_MAX_BYTES)
            groups[group_count++] = value;
        else if (kind == 'r' && last != 'r' && (out->state & CONTACT_PENDING_IN))
            out->request = rcbuf_new(value.p, value.n);
        else
            return false;
        last = kind;
    }
    contacts_set_groups(out, groups, group_count);
    return true;
}

bool contacts_parse(struct span text, struct contact *out)
{
    *out = (struct contact){0};
    uint64_t form, state, shown, version;
    bool good = take_number(&text, 1, &form) && form == 1 && take_blank(&text) &&
                take_number(&text, 31, &state) && take_blank(&text) && take_number(&text, 1, &shown) &&
                take_blank(&text) && take_number(&text, UINT64_MAX - 1, &version);
    if (!good || contacts_normal_state((uint8_t)state) != state)
        return false;
    out->state = (uint8_t)state;
    out->in_roster = shown == 1;
    out->version = version;
    if (!parse_parts(text, out)) {
        contact_clear(out);
        return false;
    }
    return true;
}

/* ---- the user's contacts ---- */

void contacts_load(struct user *u, const struct store_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct contact *contact = xcalloc(1, sizeof *contact);
        struct jid jid;
        if (!jid_split(fields[i].name, &jid) || jid.resource_n > 0 ||
            !contacts_parse(fields[i].value, contact)) {
            log_warn("roster",
                     "a roster record cannot be read and is left out; look at it with redis-cli HGET user=%s "
                     "contact=%.*s",
                     u->bare, SPAN_FMT(fields[i].name));
            contact_free(contact);
            continue;
        }
        contact->jid = span_dup(fields[i].name);
        u->roster_version = MAX(u->roster_version, contact->version);
        struct contact *old = map_put(&u->contacts, span_of(contact->jid), contact);
        if (old != NULL)
            contact_free(old);
    }
}

void contacts_free(struct user *u)
{
    size_t at = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL)
        contact_free(contact);
    map_free(&u->contacts);
}

struct contact *contacts_find(struct user *u, struct span bare)
{
    return map_get(&u->contacts, bare);
}

struct contact *contacts_get(struct user *u, struct span bare)
{
    struct contact *contact = contacts_find(u, bare);
    if (contact == NULL) {
        contact = xcalloc(1, sizeof *contact);
        contact->jid = span_dup(bare);
        map_put(&u->contacts, span_of(contact->jid), contact);
    }
    return contact;
}

bool contacts_may_see(struct user *u, struct span bare)
{
    const struct contact *contact = contacts_find(u, bare);
    return span_is(bare, u->bare) || (contact != NULL && (contact->state & CONTACT_FROM));
}

size_t contacts_roster_count(const struct user *u)
{
    size_t at = 0, count = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL)
        count += contact->in_roster;
    return count;
}

/* The parts that depend on the state at their longest. */
#define ITEM_FIXED_BYTES 96

size_t contacts_item_bytes(struct span jid, struct span name, const struct span *groups, size_t group_count)
{
    struct buf escaped = {0};
    xml_add_value(&escaped, jid);
    xml_add_value(&escaped, name);
    for (size_t i = 0; i < group_count; i++) {
        buf_add_lit(&escaped, "<group></group>");
        xml_add_text(&escaped, groups[i]);
    }
    size_t n = escaped.n + ITEM_FIXED_BYTES;
    buf_free(&escaped);
    return n;
}

static size_t shown_bytes(struct contact *contact)
{
    struct span groups[CONTACT_GROUPS_MAX];
    if (contact->shown_bytes == 0) {
        for (unsigned i = 0; i < contact->group_count; i++)
            groups[i] = span_of(contact->groups[i]);
        contact->shown_bytes = (uint32_t)contacts_item_bytes(
            span_of(contact->jid), contact->name != NULL ? span_of(contact->name) : (struct span){NULL, 0},
            groups, contact->group_count);
    }
    return contact->shown_bytes;
}

size_t contacts_roster_bytes(struct user *u)
{
    size_t at = 0, bytes = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL)
        bytes += contact->in_roster ? shown_bytes(contact) : 0;
    return bytes;
}

bool contacts_have_room(struct user *u, struct span jid, struct span name, const struct span *groups,
                        size_t group_count)
{
    const struct conf *conf = u->core->conf;
    struct contact *old = contacts_find(u, jid);
    size_t before = old != NULL && old->in_roster ? shown_bytes(old) : 0;
    size_t after = contacts_item_bytes(jid, name, groups, group_count);
    if (before == 0 && contacts_roster_count(u) >= (uint64_t)conf->limits_roster_items)
        return false;
    return after <= before ||
           contacts_roster_bytes(u) - before + after <= (uint64_t)conf->limits_roster_bytes;
}

size_t contacts_request_count(const struct user *u)
{
    size_t at = 0, count = 0;
    struct contact *contact;
    while ((contact = map_next(&u->contacts, &at)) != NULL)
        count += contact->request != NULL;
    return count;
}

void contacts_set_name(struct contact *contact, struct span name)
{
    contact->shown_bytes = 0;
    free(contact->name);
    contact->name = name.n > 0 ? span_dup(name) : NULL;
}

void contacts_set_groups(struct contact *contact, const struct span *groups, size_t count)
{
    contact->shown_bytes = 0;
    for (unsigned i = 0; i < contact->group_count; i++)
        free(contact->groups[i]);
    free(contact->groups);
    contact->groups = count > 0 ? xcalloc(count, sizeof *contact->groups) : NULL;
    contact->group_count = (uint16_t)count;
    for (size_t i = 0; i < count; i++)
        contact->groups[i] = span_dup(groups[i]);
}

static void next_version(struct user *u)
{
    struct core *c = u->core;
    u->roster_version = MAX(u->roster_version + 1, c->out.wall_ms(c->out.ctx));
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRIu64, u->roster_version);
    store_put(user_batch(u), STORE_META, VERSION_FIELD, span_make(text, (size_t)n));
}

void contacts_save(struct user *u, struct contact *contact)
{
    if (contact->in_roster) {
        next_version(u);
        contact->version = u->roster_version;
    }
    contacts_save_hidden(u, contact);
}

void contacts_save_hidden(struct user *u, struct contact *contact)
{
    struct buf record = {0};
    contacts_write(&record, contact);
    store_put(user_batch(u), STORE_ROSTER, span_of(contact->jid), buf_span(&record));
    buf_free(&record);
}

void contacts_remove(struct user *u, struct contact *contact)
{
    if (contact->in_roster)
        next_version(u);
    store_drop(user_batch(u), STORE_ROSTER, span_of(contact->jid));
    map_del(&u->contacts, span_of(contact->jid));
    contact_free(contact);
}

struct span contacts_remember(struct user *u, struct span bare, struct arena *arena)
{
    const struct contact *contact = contacts_find(u, bare);
    if (contact == NULL)
        return (struct span){NULL, 0};
    struct buf record = {0};
    contacts_write(&record, contact);
    struct span kept = arena_dup(arena, buf_span(&record));
    buf_free(&record);
    return kept;
}

void contacts_restore(struct user *u, struct span bare, struct span record)
{
    struct contact *contact = contacts_find(u, bare);
    if (contact != NULL) {
        map_del(&u->contacts, bare);
        contact_free(contact);
    }
    if (record.p == NULL)
        return;
    struct contact old;
    if (!contacts_parse(record, &old)) {
        log_error("roster", "BUG: a record of our own cannot be read user=%s contact=%.*s", u->bare,
                  SPAN_FMT(bare));
        return;
    }
    contact = contacts_get(u, bare);
    old.jid = contact->jid; /* the map's key stays */
    *contact = old;
}

/* ---- XML ---- */

void contacts_add_item(struct buf *out, const struct contact *contact)
{
    buf_add_lit(out, "<item");
    xml_add_attr(out, "jid", span_of(contact->jid));
    if (contact->name != NULL)
        xml_add_attr(out, "name", span_of(contact->name));
    xml_add_attr(out, "subscription", span_of(contacts_subscription(contact->state)));
    if (contact->state & CONTACT_PENDING_OUT)
        buf_add_lit(out, " ask='subscribe'");
    if (contact->state & CONTACT_PREAPPROVED)
        buf_add_lit(out, " approved='true'");
    if (contact->group_count == 0) {
        buf_add_lit(out, "/>");
        return;
    }
    buf_add_char(out, '>');
    for (unsigned i = 0; i < contact->group_count; i++) {
        buf_add_lit(out, "<group>");
        xml_add_text(out, span_of(contact->groups[i]));
        buf_add_lit(out, "</group>");
    }
    buf_add_lit(out, "</item>");
}

static void open_push(struct buf *out, const struct user *u)
{
    buf_add_lit(out, "<iq");
    xml_add_attr(out, "from", span_of(u->bare));
    /* Versions are unique, so they make ids. */
    buf_addf(out, " id='push-%" PRIx64 "' type='set'><query xmlns='" NS_ROSTER "' ver='%" PRIu64 "'>",
             u->roster_version, u->roster_version);
}

void contacts_add_push(struct buf *out, const struct user *u, const struct contact *contact)
{
    open_push(out, u);
    contacts_add_item(out, contact);
    buf_add_lit(out, "</query></iq>");
}

void contacts_add_push_removed(struct buf *out, const struct user *u, struct span jid)
{
    open_push(out, u);
    buf_add_lit(out, "<item");
    xml_add_attr(out, "jid", jid);
    buf_add_lit(out, " subscription='remove'/></query></iq>");
}

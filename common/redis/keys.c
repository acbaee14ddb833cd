/* Key names: "u:{" JID "}:" NAME, the JID escaped so that Redis's hash tag ends where ours does. */
#include "common/redis/keys.h"

#include "common/base/text.h"

static void tag_add(struct buf *out, struct span jid)
{
    for (size_t i = 0; i < jid.n; i++) {
        if (jid.p[i] == '%')
            buf_add_lit(out, "%25");
        else if (jid.p[i] == '}')
            buf_add_lit(out, "%7d");
        else
            buf_add_char(out, jid.p[i]);
    }
}

static void key_add(struct buf *out, struct span jid, struct span name)
{
    buf_reserve(out, jid.n + name.n + 8);
    buf_add_lit(out, "u:{");
    if (memchr(jid.p, '%', jid.n) == NULL && memchr(jid.p, '}', jid.n) == NULL)
        buf_add_span(out, jid);
    else
        tag_add(out, jid);
    buf_add_lit(out, "}:");
    buf_add_span(out, name);
}

struct span key_user(struct buf *store, struct span bare_jid, struct span name)
{
    buf_clear(store);
    key_add(store, bare_jid, name);
    return buf_span(store);
}

struct span key_owner(struct buf *store, struct span bare_jid)
{
    return key_user(store, bare_jid, SPAN("owner"));
}

struct span key_account(struct buf *store, struct span bare_jid)
{
    return key_user(store, bare_jid, SPAN("account"));
}

struct span key_roster(struct buf *store, struct span bare_jid)
{
    return key_user(store, bare_jid, SPAN("roster"));
}

struct span key_sessions(struct buf *store, struct span bare_jid)
{
    return key_user(store, bare_jid, SPAN("sessions"));
}

struct span key_mailbox(struct buf *store, struct span bare_jid)
{
    return key_user(store, bare_jid, SPAN("mailbox"));
}

struct span key_meta(struct buf *store, struct span bare_jid)
{
    return key_user(store, bare_jid, SPAN("meta"));
}

void user_keys_make(struct user_keys *k, struct span bare_jid)
{
    static const struct {
        size_t at;
        struct span name;
    } parts[] = {
        {offsetof(struct user_keys, owner), {"owner", 5}},
        {offsetof(struct user_keys, account), {"account", 7}},
        {offsetof(struct user_keys, roster), {"roster", 6}},
        {offsetof(struct user_keys, sessions), {"sessions", 8}},
        {offsetof(struct user_keys, mailbox), {"mailbox", 7}},
        {offsetof(struct user_keys, meta), {"meta", 4}},
    };
    size_t end[ARRAY_LEN(parts)];
    buf_clear(&k->store);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        key_add(&k->store, bare_jid, parts[i].name);
        end[i] = k->store.n;
    }
    /* Only now: the store does not move any more. */
    for (size_t i = 0, from = 0; i < ARRAY_LEN(parts); from = end[i++])
        *(struct span *)((char *)k + parts[i].at) = span_make(k->store.p + from, end[i] - from);
}

void user_keys_free(struct user_keys *k)
{
    buf_free(&k->store);
    *k = (struct user_keys){0};
}

bool key_user_parse(struct span key, struct span name, struct buf *jid)
{
    buf_clear(jid);
    if (key.n < 5 + name.n || memcmp(key.p, "u:{", 3) != 0 ||
        !span_eq(span_sub(key, key.n - name.n, name.n), name) ||
        memcmp(key.p + key.n - name.n - 2, "}:", 2) != 0)
        return false;
    struct span tag = span_sub(key, 3, key.n - name.n - 5);
    for (size_t i = 0; i < tag.n; i++) {
        if (tag.p[i] != '%') {
            buf_add_char(jid, tag.p[i]);
            continue;
        }
        if (i + 2 >= tag.n || !hex_decode(jid, span_sub(tag, i + 1, 2)))
            return false;
        i += 2;
    }
    return true;
}

void key_account_pattern(struct buf *out, struct span domain)
{
    buf_add_lit(out, "u:{*");
    if (domain.n > 0)
        buf_add_char(out, '@');
    for (size_t i = 0; i < domain.n; i++) {
        if (strchr("*?[]\\^-", domain.p[i]) != NULL)
            buf_add_char(out, '\\');
        buf_add_char(out, domain.p[i]);
    }
    buf_add_lit(out, "}:account");
}

struct span key_component(struct buf *store, struct span domain)
{
    buf_clear(store);
    buf_add_lit(store, "jd:{cluster}:component:");
    buf_add_span(store, domain);
    return buf_span(store);
}

struct span key_s2s_handed(struct buf *store, struct span process)
{
    buf_clear(store);
    buf_add_lit(store, "jd:{cluster}:s2s-handed:");
    buf_add_span(store, process);
    return buf_span(store);
}

struct span key_s2s_tail(struct buf *store, struct span domain)
{
    buf_clear(store);
    buf_add_lit(store, "jd:{s2s-");
    buf_add_span(store, domain);
    buf_add_lit(store, "}:tail");
    return buf_span(store);
}

struct span key_s2s_session(struct buf *store, struct span id)
{
    buf_clear(store);
    buf_add_lit(store, "jd:s2s-session:");
    buf_add_span(store, id);
    return buf_span(store);
}

struct span key_present(struct buf *store, uint16_t slot)
{
    buf_clear(store);
    buf_addf(store, "jd:{slot-%u}:present", slot);
    return buf_span(store);
}

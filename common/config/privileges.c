#include "common/config/privileges.h"

#include "common/config/conf.h"

static bool read_access(struct span text, uint8_t *out)
{
    static const char *const names[] = {"none", "get", "set", "both"};
    for (uint8_t bits = 0; bits < ARRAY_LEN(names); bits++)
        if (span_is(text, names[bits])) {
            *out = bits;
            return true;
        }
    return false;
}

const char *privileges_access(uint8_t bits)
{
    static const char *const names[] = {"none", "get", "set", "both"};
    return names[bits & 3];
}

/* "NAMESPACE:get": namespaces hold colons themselves. */
static bool read_iq(struct span value, struct privileges *out)
{
    size_t at = value.n;
    while (at > 0 && value.p[at - 1] != ':')
        at--;
    if (at < 2 || out->iq_count == PRIVILEGE_IQS_MAX ||
        !read_access(span_sub(value, at, SIZE_MAX), &out->iqs[out->iq_count].types))
        return false;
    out->iqs[out->iq_count++].ns = span_sub(value, 0, at - 1);
    return true;
}

static bool read_permission(struct span word, struct privileges *out, bool *push_set)
{
    size_t at = span_index(word, ':');
    struct span name = span_sub(word, 0, at), value = span_sub(word, MIN(at + 1, word.n), SIZE_MAX);
    if (span_is(name, "roster"))
        return read_access(value, &out->roster);
    if (span_is(name, "push")) {
        *push_set = true;
        out->push = span_is(value, "true");
        return out->push || span_is(value, "false");
    }
    if (span_is(name, "message")) {
        out->message = span_is(value, "outgoing");
        return out->message || span_is(value, "none");
    }
    if (span_is(name, "presence")) {
        out->presence = span_is(value, "roster")           ? PRIVILEGE_PRESENCE_ROSTER
                        : span_is(value, "managed_entity") ? PRIVILEGE_PRESENCE_MANAGED
                                                           : PRIVILEGE_PRESENCE_NONE;
        return out->presence != PRIVILEGE_PRESENCE_NONE || span_is(value, "none");
    }
    return span_is(name, "iq") && read_iq(value, out);
}

bool privileges_parse(struct span item, struct privileges *out, const char **why)
{
    size_t at = span_index(item, '=');
    bool push_set = false;
    *out = (struct privileges){.domain = span_sub(item, 0, at)};
    *why = "the form is DOMAIN=PERMISSION PERMISSION...";
    if (at == 0 || at + 1 >= item.n)
        return false;
    struct span rest = span_sub(item, at + 1, SIZE_MAX);
    while (rest.n > 0) {
        struct span permission = span_cut(&rest, ' ');
        *why = "permissions are roster:get|set|both, push:true|false, message:outgoing, "
               "presence:managed_entity|roster, iq:NAMESPACE:get|set|both";
        if (permission.n > 0 && !read_permission(permission, out, &push_set))
            return false;
    }
    bool reads = (out->roster & PRIVILEGE_GET) != 0;
    if (!push_set)
        out->push = reads;
    *why = "push and presence:roster need roster:get or roster:both"; /* XEP-0356 §4.1, §7.4 */
    return reads || (!out->push && out->presence != PRIVILEGE_PRESENCE_ROSTER);
}

bool privileges_of(const struct conf *conf, struct span domain, struct privileges *out)
{
    const char *why;
    for (unsigned i = 0; i < conf->s2s_privileges.count; i++)
        if (privileges_parse(span_of(conf->s2s_privileges.items[i]), out, &why) &&
            span_eq(out->domain, domain))
            return true;
    *out = (struct privileges){0};
    return false;
}

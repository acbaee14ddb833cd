/* The URL is cut from the left: scheme, credentials up to the last '@' before the path, then the address. */
#include "common/redis/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "common/base/text.h"

/* Undoes %XX. NULL when malformed; the caller frees. */
static char *percent_decode(struct span s)
{
    struct buf out = {0};
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '%') {
            buf_add_char(&out, s.p[i]);
        } else if (i + 2 < s.n && hex_decode(&out, span_sub(s, i + 1, 2))) {
            i += 2;
        } else {
            buf_free(&out);
            return NULL;
        }
    }
    char *text = span_dup(buf_span(&out));
    buf_free(&out);
    return text;
}

static struct span after(struct span s, size_t from)
{
    return span_sub(s, from, s.n);
}

/* Takes "[USER]:PASSWORD@" off the front of *rest, as far as `end`. */
static bool credentials_take(struct span *rest, size_t end, struct redis_url *out)
{
    size_t at = end;
    while (at > 0 && rest->p[at - 1] != '@')
        at--;
    if (at == 0)
        return true;
    struct span both = span_sub(*rest, 0, at - 1);
    size_t colon = span_index(both, ':');
    if (colon == both.n)
        return false;
    if (colon > 0)
        out->user = percent_decode(span_sub(both, 0, colon));
    out->password = percent_decode(after(both, colon + 1));
    *rest = after(*rest, at);
    return out->password != NULL && (colon == 0 || out->user != NULL);
}

static bool db_take(struct span text, struct redis_url *out)
{
    uint64_t db = 0;
    if (text.n > 0 && !span_to_u64(text, 65535, &db))
        return false;
    out->db = (unsigned)db;
    return true;
}

static const char *unix_parse(struct span rest, struct redis_url *out)
{
    size_t slash = span_index(rest, '/');
    if (!credentials_take(&rest, slash, out))
        return "the part before @ is not [USER]:PASSWORD";
    size_t question = span_index(rest, '?');
    struct span path = span_sub(rest, 0, question), query = after(rest, question);
    if (path.n == 0 || path.p[0] != '/')
        return "a unix socket needs an absolute path, unix:///PATH";
    if (path.n >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return "the socket's path is too long for the system";
    out->path = span_dup(path);
    if (query.n == 0)
        return NULL;
    if (query.n < 5 || memcmp(query.p, "?db=", 4) != 0 || !db_take(after(query, 4), out))
        return "behind ? only db=NUMBER is known";
    return NULL;
}

/* "HOST[:PORT]", the host in brackets when it holds colons. */
static const char *address_parse(struct span text, uint64_t default_port, struct redis_address *out)
{
    struct span host = text;
    size_t port_at;
    if (text.n > 0 && text.p[0] == '[') {
        size_t end = span_index(text, ']');
        if (end == text.n)
            return "the ] is missing";
        host = span_sub(text, 1, end - 1);
        port_at = end + 1;
    } else {
        port_at = span_index(text, ':');
        host.n = port_at;
    }
    struct span port = after(text, port_at);
    uint64_t number = default_port;
    if (port.n > 0 && (port.p[0] != ':' || !span_to_u64(after(port, 1), 65535, &number) || number == 0))
        return "the port is not a number from 1 to 65535";
    if (host.n == 0)
        return "there is no host";
    char digits[8];
    snprintf(digits, sizeof(digits), "%u", (unsigned)number);
    redis_address_set(out, host, span_of(digits));
    return NULL;
}

/* A password may hold a '/' only as %2F. */
static const char *tcp_parse(struct span rest, struct redis_url *out)
{
    size_t slash = span_index(rest, '/');
    struct span db = after(rest, slash + 1);
    rest.n = slash;
    if (!credentials_take(&rest, rest.n, out))
        return "the part before @ is not [USER]:PASSWORD";
    const char *wrong = address_parse(rest, 6379, &out->at);
    if (wrong == NULL && !db_take(db, out))
        wrong = "the database behind / is not a number";
    return wrong;
}

static const char *seeds_parse(struct span rest, uint64_t default_port, struct redis_url *out)
{
    if (!credentials_take(&rest, rest.n, out))
        return "the part before @ is not [USER]:PASSWORD";
    for (bool more = true; more;) {
        size_t comma = span_index(rest, ',');
        more = comma < rest.n;
        out->seeds = xrealloc(out->seeds, (out->seed_count + 1) * sizeof(*out->seeds));
        out->seeds[out->seed_count++] = (struct redis_address){0};
        const char *wrong =
            address_parse(span_sub(rest, 0, comma), default_port, &out->seeds[out->seed_count - 1]);
        if (wrong != NULL)
            return wrong;
        rest = after(rest, comma + 1);
    }
    return NULL;
}

static const char *cluster_parse(struct span rest, struct redis_url *out)
{
    out->mode = REDIS_CLUSTER;
    if (span_index(rest, '/') < rest.n)
        return "a Redis Cluster has no databases: nothing may follow the addresses";
    return seeds_parse(rest, 6379, out);
}

static const char *sentinel_parse(struct span rest, struct redis_url *out)
{
    out->mode = REDIS_SENTINEL;
    size_t slash = span_index(rest, '/');
    struct span master = after(rest, slash + 1);
    size_t second = span_index(master, '/');
    struct span db = after(master, second + 1);
    master.n = second;
    rest.n = slash;
    if (master.n == 0)
        return "behind the Sentinels the name of the master is missing, /MASTER";
    out->master = span_dup(master);
    if (!db_take(db, out))
        return "the database behind the master's name is not a number";
    return seeds_parse(rest, 26379, out);
}

bool redis_url_parse(const char *text, struct redis_url *out, char **error)
{
    *out = (struct redis_url){0};
    struct span url = span_of(text);
    static const struct {
        struct span scheme;
        const char *(*parse)(struct span rest, struct redis_url *out);
    } forms[] = {{{"redis://", 8}, tcp_parse},
                 {{"unix://", 7}, unix_parse},
                 {{"redis+cluster://", 16}, cluster_parse},
                 {{"redis+sentinel://", 17}, sentinel_parse}};
    const char *wrong = "it must begin with redis://, unix://, redis+cluster:// or redis+sentinel://";
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct span scheme = forms[i].scheme;
        if (span_eq(span_sub(url, 0, scheme.n), scheme))
            wrong = forms[i].parse(after(url, scheme.n), out);
    }
    if (wrong == NULL)
        return true;
    redis_url_free(out);
    *error = xasprintf("redis.url: %s", wrong); /* the URL itself may hold a password */
    return false;
}

void redis_url_free(struct redis_url *url)
{
    redis_address_free(&url->at);
    for (size_t i = 0; i < url->seed_count; i++)
        redis_address_free(&url->seeds[i]);
    free(url->seeds);
    free(url->path);
    free(url->master);
    free(url->user);
    free(url->password);
    *url = (struct redis_url){0};
}

void redis_address_set(struct redis_address *a, struct span host, struct span port)
{
    struct redis_address fresh = {span_dup(host), span_dup(port)}; /* host may be a part of *a */
    redis_address_free(a);
    *a = fresh;
}

bool redis_address_is(const struct redis_address *a, struct span host, struct span port)
{
    return a->host != NULL && span_is(host, a->host) && span_is(port, a->port);
}

void redis_address_free(struct redis_address *a)
{
    free(a->host);
    free(a->port);
    *a = (struct redis_address){0};
}

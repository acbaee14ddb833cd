/* The URL is cut from the left: scheme, credentials up to the last '@' before the path, then the address. */
#include "common/redis/url.h"

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

static const char *tcp_parse(struct span rest, struct redis_url *out)
{
    /* A password may hold a '/' only as %2F. */
    size_t slash = span_index(rest, '/');
    struct span db = after(rest, slash + 1);
    rest.n = slash;
    if (!credentials_take(&rest, rest.n, out))
        return "the part before @ is not [USER]:PASSWORD";
    size_t host_end = rest.n, port_at = rest.n;
    if (rest.n > 0 && rest.p[0] == '[') {
        host_end = span_index(rest, ']');
        if (host_end == rest.n)
            return "the ] is missing";
        out->host = span_dup(span_sub(rest, 1, host_end - 1));
        port_at = host_end + 1;
    } else {
        host_end = port_at = span_index(rest, ':');
        out->host = span_dup(span_sub(rest, 0, host_end));
    }
    struct span port = after(rest, port_at);
    uint64_t number = 6379;
    if (port.n > 0 && (port.p[0] != ':' || !span_to_u64(after(port, 1), 65535, &number) || number == 0))
        return "the port is not a number from 1 to 65535";
    if (out->host[0] == '\0')
        return "there is no host";
    out->port = xasprintf("%u", (unsigned)number);
    if (!db_take(db, out))
        return "the database behind / is not a number";
    return NULL;
}

bool redis_url_parse(const char *text, struct redis_url *out, char **error)
{
    *out = (struct redis_url){0};
    struct span url = span_of(text);
    const char *wrong;
    if (url.n > 7 && memcmp(url.p, "unix://", 7) == 0)
        wrong = unix_parse(after(url, 7), out);
    else if (url.n > 8 && memcmp(url.p, "redis://", 8) == 0)
        wrong = tcp_parse(after(url, 8), out);
    else
        wrong = "it must be redis://HOST:PORT or unix:///PATH";
    if (wrong == NULL)
        return true;
    redis_url_free(out);
    *error = xasprintf("redis.url: %s", wrong); /* the URL itself may hold a password */
    return false;
}

void redis_url_free(struct redis_url *url)
{
    free(url->path);
    free(url->host);
    free(url->port);
    free(url->user);
    free(url->password);
    *url = (struct redis_url){0};
}

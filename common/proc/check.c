#include "common/proc/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/jid/jid.h"
#include "common/redis/redis.h"
#include "common/ring/ring.h"
#include "common/wire/wire.h"

#define CURVE_KEY_BYTES 40 /* Z85 */

static bool wrong(struct buf *errors, const char *option, const char *value, const char *why)
{
    buf_addf(errors, "%s: \"%s\" %s\n", option, value, why);
    return false;
}

static bool check_domain(struct buf *errors, const char *option, const char *text, struct span domain)
{
    struct buf store = {0};
    const char *why = NULL;
    bool ok = jid_prepare_domain(domain, &store, &why);
    if (!ok)
        buf_addf(errors, "%s: \"%s\" names no domain: %s\n", option, text, why != NULL ? why : "malformed");
    buf_free(&store);
    return ok;
}

static bool check_domains(const struct conf *c, struct buf *errors)
{
    const struct conf_list *list = &c->cluster_domains;
    bool ok = list->count > 0;
    if (!ok)
        buf_add_str(errors, "cluster.domains: there must be one at least\n");
    for (unsigned i = 0; i < list->count; i++) {
        ok &= check_domain(errors, "cluster.domains", list->items[i], span_of(list->items[i]));
        for (unsigned k = 0; k < i; k++)
            if (strcasecmp(list->items[i], list->items[k]) == 0)
                ok = wrong(errors, "cluster.domains", list->items[i], "stands there twice");
    }
    return ok;
}

static bool check_address(struct buf *errors, const char *option, const char *text)
{
    struct sockaddr_storage at;
    return ring_address(text, &at) != 0 ||
           wrong(errors, option, text,
                 "is no address: write 192.0.2.1:5222 or [2001:db8::1]:5222, [::] for all");
}

static bool check_addresses(struct buf *errors, const char *option, const struct conf_list *list)
{
    bool ok = true;
    for (unsigned i = 0; i < list->count; i++)
        ok &= check_address(errors, option, list->items[i]);
    return ok;
}

static bool check_components(const struct conf *c, struct buf *errors)
{
    bool ok = true;
    for (unsigned i = 0; i < c->s2s_components.count; i++) {
        struct span rest = span_of(c->s2s_components.items[i]), domain = span_cut(&rest, '=');
        /* The item itself holds the secret and is not repeated. */
        char *shown = span_dup(domain);
        if (rest.n == 0)
            ok = wrong(errors, "s2s.components", shown, "has no secret: write DOMAIN=SECRET");
        ok &= check_domain(errors, "s2s.components", shown, domain);
        free(shown);
    }
    return ok;
}

/* What one machine says to another in clear can be read and forged by whoever is between them. Loopback is as
 * private as the machine: its users are its administrators'. */
static bool is_open_tcp(const struct conf *c)
{
    struct sockaddr_storage at;
    const char *listen = c->bus_listen;
    if (strncmp(listen, "tcp://", 6) != 0 || c->bus_curve_secret_key[0] != '\0')
        return false;
    const char *host = listen + 6, *colon = strrchr(host, ':');
    if (colon == NULL)
        return true;
    struct span name = span_make(host, (size_t)(colon - host));
    if (span_is(name, "localhost") || span_is(name, "[::1]"))
        return false;
    /* 127.0.0.0/8; the port may be *, which is none of an address. */
    char *whole = xasprintf("%.*s:1", SPAN_FMT(name));
    bool loopback = ring_address(whole, &at) != 0 && at.ss_family == AF_INET &&
                    ((const unsigned char *)&((const struct sockaddr_in *)&at)->sin_addr)[0] == 127;
    free(whole);
    return !loopback;
}

static bool check_bus(const struct conf *c, struct buf *errors)
{
    bool ok = true;
    const char *listen = c->bus_listen;
    if (*listen != '\0' && strncmp(listen, "ipc://", 6) != 0 && strncmp(listen, "tcp://", 6) != 0)
        ok = wrong(errors, "bus.listen", listen, "is no endpoint: write ipc:///PATH or tcp://HOST:PORT");
    size_t n = strlen(c->bus_curve_secret_key);
    if (n != 0 && n != CURVE_KEY_BYTES)
        ok = wrong(errors, "bus.curve_secret_key", "…", "must have 40 characters (Z85)");
    if (!c->bus_insecure_tcp && is_open_tcp(c))
        ok =
            wrong(errors, "bus.listen", listen,
                  "would carry everything in clear to other hosts: set bus.curve_secret_key (the same on all "
                  "nodes), or bus.insecure_tcp = true where nobody else is on that network");
    return ok;
}

/* Whatever is taken in must fit into a frame in every form in which it travels or is answered (WIRE_GROWTH).
 */
static bool check_size(struct buf *errors, const char *option, int64_t bytes, uint64_t growth, uint64_t most)
{
    uint64_t needs = (uint64_t)bytes * growth + WIRE_ROOM + WIRE_LIST_MAX;
    if (bytes >= 0 && needs <= most)
        return true;
    buf_addf(errors, "%s = %lld needs frames of %llu bytes, more than the %llu that processes exchange\n",
             option, (long long)bytes, (unsigned long long)needs, (unsigned long long)most);
    return false;
}

static bool check_sizes(const struct conf *c, struct buf *errors)
{
    bool ok =
        check_size(errors, "c2s.stanza_max_bytes", c->c2s_stanza_max_bytes, WIRE_GROWTH, WIRE_MAX_BYTES);
    ok &= check_size(errors, "s2s.stanza_max_bytes", c->s2s_stanza_max_bytes, WIRE_GROWTH, WIRE_MAX_BYTES);
    ok &= check_size(errors, "limits.roster_bytes", c->limits_roster_bytes, 1, WIRE_MAX_BYTES / 2);
    return ok;
}

bool check_values(const struct conf *c, struct buf *errors)
{
    char *why = NULL;
    bool ok = check_domains(c, errors);
    ok &= check_addresses(errors, "c2s.listen", &c->c2s_listen);
    ok &= check_addresses(errors, "c2s.listen_tls", &c->c2s_listen_tls);
    ok &= check_addresses(errors, "s2s.listen", &c->s2s_listen);
    ok &= check_addresses(errors, "s2s.listen_tls", &c->s2s_listen_tls);
    ok &= check_addresses(errors, "s2s.component_listen", &c->s2s_component_listen);
    ok &= check_address(errors, "stats.listen", c->stats_listen);
    ok &= check_components(c, errors);
    ok &= check_bus(c, errors);
    ok &= check_sizes(c, errors);
    if (!redis_url_check(c->redis_url, &why)) {
        buf_addf(errors, "%s\n", why);
        free(why);
        ok = false;
    }
    return ok;
}

static bool check_path(struct buf *errors, const char *option, const char *path, int mode)
{
    if (*path == '\0' || access(path, mode) == 0)
        return true;
    buf_addf(errors, "%s: %s cannot be %s: %s\n", option, path, (mode & X_OK) != 0 ? "entered" : "read",
             strerror(errno));
    return false;
}

bool check_files(const struct conf *c, struct buf *errors)
{
    bool ok = check_path(errors, "tls.directory", c->tls_directory, R_OK | X_OK);
    ok &= check_path(errors, "s2s.trust_file", c->s2s_trust_file, R_OK);
    return ok;
}

/* Certificates where the operator puts them: files of one directory, by the names as people write them. */
#include <stdlib.h>
#include <unistd.h>

#include "common/base/list.h"
#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/stats/stats.h"
#include "common/tls/tls.h"

#define DAY_MS 86400000u

static const char *const kinds[] = {"", ".ecdsa", ".rsa"};

struct entry {
    struct list node;
    char *name;              /* NULL = default */
    struct buf sni;          /* with A-labels */
    struct stat_gauge *ends; /* NULL: none */
};

struct tls_directory {
    struct tls_ctx *ctx;
    char *path;
    unsigned warn_days;
    uint64_t check_ms; /* when to look for complaints again */
    bool loaded;       /* once at least */
    struct list entries;
};

static void add_entry(struct tls_directory *d, const char *domain)
{
    struct entry *e = xcalloc(1, sizeof *e);

    e->name = domain != NULL ? xstrdup(domain) : NULL;
    if (domain != NULL && !jid_domain_to_ascii(span_of(domain), &e->sni)) {
        log_error("tls", "%s: DNS cannot hold that domain, so it has no certificate", domain);
        buf_clear(&e->sni);
    }
    list_add(&d->entries, &e->node);
}

struct tls_directory *tls_directory_new(struct tls_ctx *ctx, const char *path, unsigned warn_days)
{
    struct tls_directory *d = xcalloc(1, sizeof *d);

    d->ctx = ctx;
    d->path = xstrdup(path);
    d->warn_days = warn_days;
    list_init(&d->entries);
    add_entry(d, NULL);
    return d;
}

void tls_directory_free(struct tls_directory *d)
{
    if (d == NULL)
        return;
    while (!list_empty(&d->entries)) {
        struct entry *e = LIST_ENTRY(list_pop(&d->entries), struct entry, node);
        buf_free(&e->sni);
        free(e->name);
        free(e);
    }
    free(d->path);
    free(d);
}

void tls_directory_add(struct tls_directory *d, const char *domain)
{
    LIST_EACH (it, &d->entries) {
        const char *name = LIST_ENTRY(it, struct entry, node)->name;
        if (name != NULL && strcmp(name, domain) == 0)
            return;
    }
    add_entry(d, domain);
}

static const char *sni_of(struct entry *e)
{
    return e->name != NULL ? buf_cstr(&e->sni) : NULL;
}

/* Takes the files; when they can't be taken together and nothing is in force, the first that can be alone:
 * one broken pair shall not put out the other at a start, nor, at a reload, what serves well. */
static bool take_files(struct tls_directory *d, struct entry *e, const struct tls_cert_files *files,
                       unsigned n)
{
    char *error = NULL;
    const char *for_whom = e->name != NULL ? e->name : "all other names";
    bool good = tls_ctx_set_certs(d->ctx, sni_of(e), files, n, &error);

    if (!good)
        log_error("tls", "certificate for %s not taken: %s", for_whom, error);
    for (unsigned i = 0; good && i < n; i++)
        log_info("tls", "certificate %s for %s", files[i].cert, for_whom);
    free(error);
    for (unsigned i = 0; !good && n > 1 && i < n && tls_ctx_cert_expiry_ms(d->ctx, sni_of(e)) == 0; i++) {
        error = NULL;
        good = tls_ctx_set_certs(d->ctx, sni_of(e), &files[i], 1, &error);
        if (good)
            log_info("tls", "certificate %s alone for %s", files[i].cert, for_whom);
        free(error);
    }
    return good;
}

static bool load_entry(struct tls_directory *d, struct entry *e)
{
    struct tls_cert_files files[ARRAY_LEN(kinds)];
    char *texts[2 * ARRAY_LEN(kinds)];
    const char *name = e->name != NULL ? e->name : "default";
    unsigned n = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        texts[2 * i] = xasprintf("%s/%s%s.crt", d->path, name, kinds[i]);
        texts[2 * i + 1] = xasprintf("%s/%s%s.key", d->path, name, kinds[i]);
        if (access(texts[2 * i], F_OK) == 0)
            files[n++] = (struct tls_cert_files){texts[2 * i], texts[2 * i + 1]};
    }
    bool named = e->name == NULL || e->sni.n > 0, good = n > 0 && named && take_files(d, e, files, n);
    if (n == 0 && named && tls_ctx_cert_expiry_ms(d->ctx, sni_of(e)) != 0)
        log_warn("tls", "certificate %s is gone; what was read from it stays in force", texts[0]);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
    return good;
}

/* The metrics are complete before anybody reads them, so they are made at the start; and never freed, as the
 * endpoint's thread may read them to the end. */
static void add_metric(struct entry *e)
{
    e->ends = xcalloc(1, sizeof *e->ends);
    *e->ends = (struct stat_gauge)STAT_GAUGE(
        "jackdaw_tls_certificate_expiry_timestamp_seconds",
        "When the certificate that is shown for a domain runs out, in seconds since 1970; 0 = there is none",
        xasprintf("domain=\"%s\"", e->name != NULL ? e->name : "default"));
    stat_register(&e->ends->meta);
}

/* Sets the metric of a name and logs the complaints about what is shown for it, its own certificates or the
 * default's. */
static void judge_entry(struct tls_directory *d, struct entry *e, uint64_t now_ms)
{
    struct tls_expect expect = {.now_ms = now_ms, .warn_days = d->warn_days};
    struct buf text = {0};
    bool named = e->name != NULL && e->sni.n > 0;
    const char *shown = named && tls_ctx_cert_expiry_ms(d->ctx, sni_of(e)) != 0 ? sni_of(e) : NULL;

    if (named) {
        expect.ascii = sni_of(e);
        expect.unicode = e->name;
    }
    uint64_t ends_ms = tls_ctx_cert_expiry_ms(d->ctx, shown);
    if (!d->loaded && (e->name != NULL || ends_ms != 0))
        add_metric(e);
    if (e->ends != NULL)
        stat_set(e->ends, (int64_t)(ends_ms / 1000));
    tls_ctx_complaints(d->ctx, shown, &expect, &text);
    for (struct span rest = buf_span(&text), line; rest.n > 0;) {
        line = span_cut(&rest, '\n');
        log_warn("tls", "certificate for %s: %.*s", e->name != NULL ? e->name : "all other names",
                 SPAN_FMT(line));
    }
    buf_free(&text);
}

static void judge(struct tls_directory *d, uint64_t now_ms)
{
    d->check_ms = now_ms + DAY_MS;
    LIST_EACH (it, &d->entries)
        judge_entry(d, LIST_ENTRY(it, struct entry, node), now_ms);
}

unsigned tls_directory_load(struct tls_directory *d, uint64_t now_ms)
{
    unsigned n = 0;

    LIST_EACH (it, &d->entries)
        n += load_entry(d, LIST_ENTRY(it, struct entry, node));
    judge(d, now_ms);
    d->loaded = true;
    return n;
}

void tls_directory_check(struct tls_directory *d, uint64_t now_ms)
{
    if (now_ms >= d->check_ms)
        judge(d, now_ms);
}

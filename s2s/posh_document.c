/* Each member of "fingerprints" stands for one certificate under several hashes: the longest that we know
 * counts, so that a weaker one beside it cannot be attacked. */
#include "s2s/posh_document.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/base/text.h"

static bool take_hash(const json_t *descriptor, const char *name, uint8_t n, struct posh_fingerprint *out)
{
    struct buf hash = {0};
    const char *text = json_string_value(json_object_get(descriptor, name));
    bool good = text != NULL && base64_decode(&hash, span_of(text)) && hash.n == n;
    if (good) {
        out->n = n;
        memcpy(out->hash, buf_span(&hash).p, n);
    }
    buf_free(&hash);
    return good;
}

static void take_fingerprints(const json_t *list, struct posh_document *out)
{
    size_t at;
    const json_t *descriptor;
    json_array_foreach(list, at, descriptor)
    {
        if (out->count == POSH_FINGERPRINTS_MAX)
            return;
        struct posh_fingerprint *f = &out->fingerprints[out->count];
        out->count += take_hash(descriptor, "sha-512", 64, f) || take_hash(descriptor, "sha-384", 48, f) ||
                      take_hash(descriptor, "sha-256", 32, f);
    }
}

static bool take(const json_t *root, struct posh_document *out, const char **why)
{
    const json_t *url = json_object_get(root, "url"), *list = json_object_get(root, "fingerprints");
    const json_t *expires = json_object_get(root, "expires");
    if (!json_is_integer(expires) || json_integer_value(expires) < 0) {
        *why = "\"expires\" is no number of seconds";
    } else if (json_integer_value(expires) == 0) {
        *why = "\"expires\" is 0: it says itself that it does not hold";
    } else if ((url == NULL) == (list == NULL)) {
        *why = "it needs either \"fingerprints\" or \"url\"";
    } else if (url != NULL && !json_is_string(url)) {
        *why = "\"url\" is no text";
    } else {
        out->expires_s = (uint64_t)json_integer_value(expires);
        if (url != NULL)
            out->url = xstrdup(json_string_value(url));
        else
            take_fingerprints(list, out);
        if (url != NULL || out->count > 0)
            return true;
        *why = "it has no fingerprint by sha-256, sha-384 or sha-512";
    }
    return false;
}

bool posh_document_parse(struct span text, struct posh_document *out, const char **why)
{
    *out = (struct posh_document){0};
    json_error_t error;
    json_t *root = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        *why = root == NULL ? "it is no JSON" : "it is no JSON object";
        json_decref(root);
        return false;
    }
    bool good = take(root, out, why);
    json_decref(root);
    if (!good)
        posh_document_clear(out);
    return good;
}

void posh_document_clear(struct posh_document *d)
{
    free(d->url);
    *d = (struct posh_document){0};
}

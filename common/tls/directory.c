/* Certificates where the operator puts them: DOMAIN.crt and DOMAIN.key in one directory, by the names as
 * people write them. */
#include <stdlib.h>
#include <unistd.h>

#include "common/jid/jid.h"
#include "common/log/log.h"
#include "common/tls/tls.h"

bool tls_ctx_load_cert(struct tls_ctx *ctx, const char *directory, const char *domain)
{
    struct buf sni = {0};
    char *cert = xasprintf("%s/%s.crt", directory, domain != NULL ? domain : "default");
    char *key = xasprintf("%s/%s.key", directory, domain != NULL ? domain : "default");
    char *error = NULL;
    bool there = access(cert, F_OK) == 0;
    bool named = domain == NULL || jid_domain_to_ascii(span_of(domain), &sni);
    bool good =
        there && named && tls_ctx_add_cert(ctx, domain != NULL ? buf_cstr(&sni) : NULL, cert, key, &error);

    if (good)
        log_info("tls", "certificate %s for %s", cert, domain != NULL ? domain : "all other names");
    else if (there)
        log_error("tls", "certificate %s not taken: %s", cert,
                  error != NULL ? error : "DNS cannot hold that domain");
    buf_free(&sni);
    free(error);
    free(cert);
    free(key);
    return good;
}

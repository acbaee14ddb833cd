/* TLS sessions without sockets (RFC 7590, RFC 9325): bytes in, bytes out. Owns OpenSSL.
 *
 * A session has no buffers of its own beyond OpenSSL's: tls_feed reads from the caller's received bytes and
 * appends plain text and outgoing records to the caller's buffers. */
#ifndef JACKDAW_TLS_TLS_H
#define JACKDAW_TLS_TLS_H

#include "common/base/buf.h"

struct tls_ctx; /* certificates, tickets, policy; shared by all sessions */
struct tls;     /* one session */

enum tls_status {
    TLS_HANDSHAKING, /* more bytes needed */
    TLS_OPEN,        /* handshake done; data flows */
    TLS_CLOSED,      /* the peer has sent close_notify */
    TLS_FAILED       /* tls_error says why; send what is in `out` (the alert) and close the socket */
};

struct tls_config {
    const char *alpn;         /* "xmpp-client" or "xmpp-server"; NULL = none */
    bool request_client_cert; /* s2s: ask, but leave the verdict to the caller */
    bool allow_tls12;         /* else 1.3 only */
    bool slim;                /* tls_slim will be called for server sessions */
    const char *trust_file;   /* PEM bundle for verification; NULL = the system's */
};

/* A new context without certificates. NULL with *error set (caller frees) when OpenSSL refuses. */
struct tls_ctx *tls_ctx_new(const struct tls_config *config, char **error);
void tls_ctx_free(struct tls_ctx *ctx);

/* PEM files: a certificate with its chain behind it, and its private key. */
struct tls_cert_files {
    const char *cert, *key;
};

/* Puts the certificates of a domain in force, in place of all that it had; several have keys of different
 * types (ECDSA beside RSA) and serve each client with what it can check. domain is spelled as SNI does
 * (A-labels, any case); NULL = the default for unknown or missing SNI. Sessions that stand keep the old ones.
 * False with *error set (caller frees; names the file), and the old ones stay in force. */
bool tls_ctx_set_certs(struct tls_ctx *ctx, const char *domain, const struct tls_cert_files *files,
                       unsigned count, char **error);

/* The same with one. */
bool tls_ctx_set_cert(struct tls_ctx *ctx, const char *domain, const char *cert_file, const char *key_file,
                      char **error);

/* When the first certificate of a domain (NULL = default) runs out, ms since 1970; 0 when there is none. */
uint64_t tls_ctx_cert_expiry_ms(const struct tls_ctx *ctx, const char *domain);

/* What a certificate should be. */
struct tls_expect {
    const char *ascii, *unicode; /* names this domain, with A-labels or U-labels; NULL = any */
    uint64_t now_ms;             /* is valid now, ms since 1970 … */
    unsigned warn_days;          /* … and for so long */
};

/* Appends a line for everything that is wrong with the certificates in force of a domain (NULL = default). */
void tls_ctx_complaints(const struct tls_ctx *ctx, const char *domain, const struct tls_expect *expect,
                        struct buf *out);

/* The certificates that an operator keeps in a directory for some domains: DOMAIN.crt with DOMAIN.key, and
 * beside or instead of them DOMAIN.ecdsa.crt/.key and DOMAIN.rsa.crt/.key, where the domain is spelled with
 * U-labels; the same with "default" for all other names. */
struct tls_directory;

/* Reads nothing yet. warn_days: from when on it is logged that a certificate runs out. ctx outlives it. */
struct tls_directory *tls_directory_new(struct tls_ctx *ctx, const char *path, unsigned warn_days);
void tls_directory_free(struct tls_directory *d);

/* A domain to look for (once, however often it is added). Before the first load, which makes the metrics. */
void tls_directory_add(struct tls_directory *d, const char *domain);

/* Puts in force what is there now, logs that, what is wrong with it, and why it could not be. The number of
 * names (default is one) whose files were taken; the others keep what they had. */
unsigned tls_directory_load(struct tls_directory *d, uint64_t now_ms);

/* Once a day, whenever it is called: logs again what is wrong. now_ms since 1970. */
void tls_directory_check(struct tls_directory *d, uint64_t now_ms);

#define TLS_TICKET_KEY_BYTES 80
/* Sets the session-ticket keys shared by all nodes: the first encrypts, all decrypt. Each is name 16, AES key
 * 32, HMAC key 32. Without a call tickets are off. */
void tls_ctx_set_ticket_keys(struct tls_ctx *ctx, const uint8_t (*keys)[TLS_TICKET_KEY_BYTES],
                             unsigned count);

/* A new server session / client session (server_name: SNI, in A-label form; NULL = none; the name in the
 * certificate is checked by tls_peer_matches). The context must outlive it. */
struct tls *tls_accept(struct tls_ctx *ctx);
struct tls *tls_connect(struct tls_ctx *ctx, const char *server_name);
void tls_free(struct tls *t);

/* For STARTTLS: the certificate by the stream's `to` when the client sends no SNI. On a client session: shows
 * that domain's certificate when the server asks for one. Before the first tls_feed. */
void tls_prefer_domain(struct tls *t, const char *domain);

/* For a client session: a TLSA record that DNSSEC has proven for the server at `host` (RFC 6698, A-labels).
 * Once there is one, only what the records say makes the peer verified. Before the first tls_feed. False: of
 * no use (a usage or hash that is not known), as if it were not there. */
bool tls_add_tlsa(struct tls *t, const char *host, uint8_t usage, uint8_t selector, uint8_t matching,
                  struct span data);

/* Takes received bytes (all of them; in.n may be 0 to start a client handshake), appends decrypted bytes to
 * *plain and records to send to *out. After TLS_FAILED or TLS_CLOSED no further plain text comes. */
enum tls_status tls_feed(struct tls *t, struct span in, struct buf *plain, struct buf *out);

/* Encrypts all of plain, appending records to *out. Only in TLS_OPEN. False on a failure (tls_error). */
bool tls_write(struct tls *t, struct span plain, struct buf *out);

/* Appends close_notify to *out. */
void tls_close(struct tls *t, struct buf *out);

/* Gives OpenSSL's session back and goes on with its keys alone (common/tls/slim), for a server session that
 * will only carry data from now on: 3 KiB in place of 14, and cheaper records. False, and all is as before,
 * where that can't be: not TLS 1.3, config.slim not set, keys renewed, or half a record waits (it may be
 * called again). After it there is no binding, no peer, and no more than version and cipher in tls_get_info.
 */
bool tls_slim(struct tls *t);

/* The last failure as one line, static until the next call. */
const char *tls_error(const struct tls *t);

/* What was negotiated, for logs and users (RFC 7590 §3.6): version ("TLSv1.3"), cipher, SNI (NULL = none),
 * ALPN (NULL = none), resumed. Borrowed from the session. */
struct tls_info {
    const char *version;
    const char *cipher;
    const char *sni;
    const char *alpn;
    bool resumed;
};
void tls_get_info(const struct tls *t, struct tls_info *out);

enum tls_binding { TLS_BINDING_EXPORTER, TLS_BINDING_SERVER_END_POINT };
/* Appends channel-binding data: tls-exporter (RFC 9266; TLS 1.3, or 1.2 with extended master secret) or
 * tls-server-end-point (RFC 5929 §4; not on a resumed server session, which no longer knows what certificate
 * the first one showed). False when it is not available. out NULL: only says whether it is, at no cost. */
bool tls_get_binding(const struct tls *t, enum tls_binding kind, struct buf *out);

/* The peer's certificate, for s2s and EXTERNAL. verified: the chain leads to the trust file and is in date;
 * names are checked by tls_peer_matches. False when the peer has sent none. */
struct tls_peer {
    bool verified;
    const char *why_not; /* borrowed; NULL when verified */
    bool in_date;        /* the certificate itself, verified or not */
    uint64_t expires_ms; /* ms since 1970 */
    bool by_dane;        /* verified by a TLSA record for this certificate or its authority, names included
                            where they matter (RFC 7671 §5.1) */
};
bool tls_get_peer(struct tls *t, struct tls_peer *out);

/* The hash of the peer's certificate as DER, n bytes: 32 for SHA-256, 48 for SHA-384, 64 for SHA-512. False
 * when there is none. */
bool tls_peer_hash(struct tls *t, size_t n, uint8_t *out);

/* True when the peer's certificate names the domain: dNSName (with wildcard), SRVName of service
 * ("xmpp-server", NULL = don't look), XmppAddr; never the CN (RFC 6120 §13.7.1.2, RFC 9525). dNSName and
 * SRVName hold A-labels, XmppAddr U-labels: ask with both forms of an internationalised domain. A bare JID of
 * a user matches its XmppAddr. */
bool tls_peer_matches(struct tls *t, const char *domain, const char *service);

#endif

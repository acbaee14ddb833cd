/* Version 1 is one line, "PROXY TCP4 SRC DST SPORT DPORT\r\n", at most 107 bytes. Version 2 is a signature of
 * 12 bytes, version and command, family, a length, the addresses and TLVs, which are skipped. */
#include "c2s/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";

enum { V1_MAX_BYTES = 107, V2_HEAD_BYTES = 16 };

static bool set_text_address(struct proxy_header *out, int family, struct span host, struct span port)
{
    char text[64];
    uint64_t number;
    if (host.n >= sizeof(text) || !span_to_u64(port, 65535, &number))
        return false;
    memcpy(text, host.p, host.n);
    text[host.n] = '\0';
    out->known = true;
    if (family == AF_INET) {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&out->address;
        in4->sin_family = AF_INET;
        in4->sin_port = htons((uint16_t)number);
        return inet_pton(AF_INET, text, &in4->sin_addr) == 1;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->address;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)number);
    return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1;
}

static enum proxy_status parse_v1(struct span in, struct proxy_header *out)
{
    struct span line = span_sub(in, 0, span_index(span_sub(in, 0, V1_MAX_BYTES), '\n'));
    if (line.n == MIN(in.n, V1_MAX_BYTES))
        return in.n < V1_MAX_BYTES ? PROXY_MORE : PROXY_BAD;
    out->n = line.n + 1;
    if (line.n == 0 || line.p[line.n - 1] != '\r')
        return PROXY_BAD;
    line.n--;
    span_cut(&line, ' ');
    struct span family = span_cut(&line, ' ');
    if (span_is(family, "UNKNOWN"))
        return PROXY_OK;
    bool v4 = span_is(family, "TCP4");
    if (!v4 && !span_is(family, "TCP6"))
        return PROXY_BAD;
    struct span source = span_cut(&line, ' ');
    span_cut(&line, ' ');
    struct span port = span_cut(&line, ' ');
    return set_text_address(out, v4 ? AF_INET : AF_INET6, source, port) ? PROXY_OK : PROXY_BAD;
}

static enum proxy_status parse_v2(struct span in, struct proxy_header *out)
{
    if (in.n < V2_HEAD_BYTES)
        return PROXY_MORE;
    const unsigned char *p = (const unsigned char *)in.p;
    unsigned version = p[12] >> 4, command = p[12] & 15, family = p[13] >> 4;
    size_t length = (size_t)p[14] << 8 | p[15];
    if (version != 2 || command > 1 || V2_HEAD_BYTES + length > PROXY_MAX_BYTES)
        return PROXY_BAD;
    if (in.n < V2_HEAD_BYTES + length)
        return PROXY_MORE;
    out->n = V2_HEAD_BYTES + length;
    p += V2_HEAD_BYTES;
    if (command == 0 || (p[-3] & 15) != 1)
        return PROXY_OK; /* LOCAL, or not TCP */
    if (family == 1 && length >= 12) {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&out->address;
        in4->sin_family = AF_INET;
        memcpy(&in4->sin_addr, p, 4);
        memcpy(&in4->sin_port, p + 8, 2);
        out->known = true;
    } else if (family == 2 && length >= 36) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->address;
        in6->sin6_family = AF_INET6;
        memcpy(&in6->sin6_addr, p, 16);
        memcpy(&in6->sin6_port, p + 32, 2);
        out->known = true;
    } else if (family == 1 || family == 2) {
        return PROXY_BAD; /* an address cut short */
    }
    return PROXY_OK;
}

enum proxy_status proxy_parse(struct span in, struct proxy_header *out)
{
    memset(out, 0, sizeof(*out));
    size_t same = MIN(in.n, sizeof(signature));
    if (same > 0 && memcmp(in.p, signature, same) == 0)
        return same < sizeof(signature) ? PROXY_MORE : parse_v2(in, out);
    same = MIN(in.n, 6);
    if (same > 0 && memcmp(in.p, "PROXY ", same) == 0)
        return same < 6 ? PROXY_MORE : parse_v1(in, out);
    return in.n == 0 ? PROXY_MORE : PROXY_BAD;
}

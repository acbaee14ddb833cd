/* A window of the last 64 numbers tells a late one from a second one; a gap counts as missing until it is
 * filled. */
#include "bench/load/numbers.h"

#include <stdlib.h>

#include "bench/load/scenario.h"

void numbers_take(struct bench *b, struct numbers *n, uint64_t number)
{
    if (number >= n->high) {
        uint64_t ahead = number - n->high;
        n->missing += ahead;
        n->seen = ahead >= 63 ? 1 : n->seen << (ahead + 1) | 1;
        n->high = number + 1;
        return;
    }
    uint64_t behind = n->high - 1 - number;
    if (behind < 64 && (n->seen >> behind & 1) == 0) {
        n->seen |= (uint64_t)1 << behind;
        n->missing--;
        b->reordered++;
    } else {
        b->duplicated++;
    }
}

uint64_t numbers_lost(const struct numbers *n, uint64_t sent)
{
    return sent - MIN(n->high, sent) + n->missing;
}

void message_add(struct buf *out, const struct bench *b, unsigned to, bool all, uint64_t number,
                 uint64_t due_ns)
{
    static struct buf padding;
    if (padding.n != b->args.body_bytes) {
        buf_clear(&padding);
        for (unsigned i = 0; i < b->args.body_bytes; i++)
            buf_add_char(&padding, "the quick brown fox jumps over the lazy dog "[i % 44]);
    }
    buf_add_lit(out, "<message to='");
    if (all)
        client_add_bare(out, b, to);
    else
        client_add_jid(out, b, to);
    buf_add_lit(out, "' type='");
    buf_add_str(out, all ? "headline" : "chat");
    buf_add_lit(out, "' id='m");
    buf_add_u64(out, number);
    buf_add_lit(out, "'><body>");
    buf_add_u64(out, number);
    buf_add_char(out, ' ');
    buf_add_u64(out, due_ns);
    buf_add_char(out, ' ');
    buf_add_span(out, buf_span(&padding));
    buf_add_lit(out, "</body></message>");
}

bool message_read(struct span raw, uint64_t *number, uint64_t *due_ns)
{
    char *end;
    const char *body = memmem(raw.p, raw.n, "<body>", 6);
    if (body == NULL)
        return false;
    *number = strtoull(body + 6, &end, 10);
    *due_ns = strtoull(end, &end, 10);
    return true;
}

/* Whatever is a stanza and gets rewritten can be indexed again, and the index says the same; error replies to
 * it are stanzas too. The first byte chooses the stream's namespace and whether `from` is stamped. */
#include <stdlib.h>

#include "common/stanza/stanza.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct xml_parser *client, *server;

static void check_same(const struct stanza *s, const struct stanza *again, bool stamped)
{
    CHECK(again->kind == s->kind && again->type == s->type);
    CHECK(span_eq(again->id, s->id));
    CHECK(again->lang.n == 0 || span_eq(again->lang, s->lang));
    CHECK(!stamped || span_eq(jid_full(&again->from), jid_full(&s->from)));
    CHECK(again->child_count == s->child_count);
    for (size_t i = 0; i < s->child_count; i++) {
        const struct xml_child *a = &s->children[i], *b = &again->children[i];
        CHECK(span_eq(a->name, b->name) && span_eq(a->ns, b->ns) && a->start == b->start && a->end == b->end);
    }
}

static void check_inside(struct span part, struct span whole)
{
    CHECK(part.p == NULL || (part.p >= whole.p && part.p + part.n <= whole.p + whole.n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct xml_element e;
    static struct stanza s, again;
    struct buf out = {0}, reply = {0};

    if (size < 1)
        return 0;
    if (client == NULL) {
        client = xml_parser_new(NS_CLIENT);
        server = xml_parser_new(NS_SERVER);
    }
    struct span in = span_make(data + 1, size - 1);
    bool stamped = (data[0] & 2) != 0;
    if (xml_parse((data[0] & 1) != 0 ? server : client, in, &e) != XML_OK)
        return 0;
    enum stanza_verdict verdict =
        stanza_rewrite(&e, in, stamped ? SPAN("j@a.example/it's <&\"") : (struct span){NULL, 0},
                       (data[0] & 4) != 0 ? SPAN("en") : SPAN(""), &out, &s);
    if (verdict != STANZA_NOT_A_STANZA) {
        struct span whole = buf_span(&out);
        check_inside(s.raw, whole);
        check_inside(s.id, whole);
        check_inside(s.lang, whole);
        check_inside(jid_full(&s.from), whole);
        check_inside(jid_full(&s.to), whole);
        CHECK(xml_parse(client, s.raw, &e) == XML_OK);
        if (verdict == STANZA_GOOD && s.to.domain_n == 0) { /* a recipient goes into the start tag */
            size_t name = strlen(stanza_kind_name(s.kind)) + 1;
            buf_add(&reply, s.raw.p, name);
            xml_add_attr(&reply, "to", SPAN("r@b.example"));
            buf_add_span(&reply, span_sub(s.raw, name, SIZE_MAX));
            CHECK(xml_parse(client, buf_span(&reply), &e) == XML_OK);
            buf_clear(&reply);
        }
        bool indexed = stanza_index(client, s.raw, &again);
        if (verdict == STANZA_GOOD && stamped && s.to.domain_n > 0)
            CHECK(indexed);
        if (indexed)
            check_same(&s, &again, stamped);
        stanza_add_error(&reply, &s, SPAN("j@a.example"), STANZA_E_BAD_REQUEST, "a & b");
        CHECK(stanza_index(client, buf_span(&reply), &again));
        CHECK(again.type == STANZA_ERROR && again.kind == s.kind && span_eq(again.id, s.id));
        CHECK(span_eq(jid_full(&again.to), jid_full(&s.from)));
    }
    buf_free(&out);
    buf_free(&reply);
    return 0;
}

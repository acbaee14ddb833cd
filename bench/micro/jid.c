/* What an address costs: prepared (what clients type) and taken apart (what is known to be good). */
#include "common/jid/jid.h"
#include "bench/micro/measure.h"

#define UNITS 1024

static char texts[UNITS][64];
static struct buf store;

static void run_ascii(void)
{
    struct jid jid;

    buf_clear(&store);
    for (unsigned i = 0; i < UNITS; i++) {
        CHECK(jid_prepare(span_of(texts[i]), &store, &jid, NULL));
        checksum += jid.local_n;
    }
}

static void run_unicode(void)
{
    struct jid jid;

    buf_clear(&store);
    for (unsigned i = 0; i < UNITS; i++) {
        CHECK(jid_prepare(SPAN("J\xc3\xbcrgen@b\xc3\xbc\x63her.example/B\xc3\xbcro"), &store, &jid, NULL));
        checksum += jid.local_n;
    }
}

static void run_split(void)
{
    struct jid jid;

    for (unsigned i = 0; i < UNITS; i++) {
        CHECK(jid_split(span_of(texts[i]), &jid));
        checksum += jid.resource_n;
    }
}

int main(int argc, char **argv)
{
    measure_only = argc > 1 ? argv[1] : NULL;
    for (unsigned i = 0; i < UNITS; i++)
        snprintf(texts[i], sizeof(texts[i]), "user%u@chat.example.org/phone-%u", i, i * 7 % 100);
    buf_reserve(&store, UNITS * 64);
    measure("jid, prepared, ASCII", UNITS, 100, run_ascii);
    measure("jid, prepared, Unicode", UNITS, 10, run_unicode);
    measure("jid, split", UNITS, 100, run_split);
    buf_free(&store);
    return 0;
}

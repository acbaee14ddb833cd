/* A client says anything, in pieces; the world answers its questions at once. Control bytes (below 9) stand
 * for what the world does: answers of all kinds, deliveries, HANDLED. */
#include <stdint.h>

#include "tests/unit/c2s/session_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sasl_keys keys;

static void answer(uint8_t what)
{
    static uint64_t out_n;
    switch (session.state) {
    case SESSION_LOOKUP:
        session_account(&session, (enum session_account)(what % 4), &keys);
        break;
    case SESSION_REGISTER:
        session_created(&session, (enum session_created)(what % 4));
        break;
    case SESSION_OPENING:
        if (what % 4 == 0)
            session_refused(&session, STANZA_E_CONFLICT, SPAN("no"));
        else
            session_opened(&session, SPAN("romeo@example.org/balcony"));
        break;
    case SESSION_RESUMING:
        if (what % 4 == 0)
            session_resume_failed(&session, STANZA_E_ITEM_NOT_FOUND, true, 3);
        else
            session_resumed(&session, SPAN("romeo@example.org/balcony"), 7, 5, what % 4 == 1 ? 0 : 90);
        break;
    case SESSION_BOUND:
        if (what == 1)
            session_enabled(&session, SPAN("sm"), 60, session.out_n);
        else if (what == 2)
            session_handled(&session, session.in_n);
        else if (what == 3)
            session_nudge(&session);
        else if (what == 4)
            session_fail(&session, SESSION_END_KILLED, STREAM_E_CONFLICT, "x", NULL);
        else {
            out_n = session.out_n + 1;
            session_deliver(&session, out_n, SPAN("<message/>"), SPAN("a@b/c"), what == 5);
        }
        session_turn_end(&session);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The first byte: TLS, require_tls, registration, and whether the login is skipped (a password cannot be
     * guessed). */
    uint8_t mode = size > 0 ? data[0] : 0;
    /* Keys as Redis gives them: of no iterations is none (sasl_keys_parse). */
    if (keys.iterations == 0)
        CHECK(sasl_keys_derive(SPAN("secret"), 1, &keys));
    fixture_begin((mode & 1) != 0);
    env.require_tls = (mode & 2) == 0;
    env.registration = (mode & 4) != 0;
    if ((mode & 8) != 0) {
        session.authenticated = true;
        session.jid = xstrdup("romeo@example.org");
        session.jid_n = session.bare_n = 17;
    }
    size_t at = 1;
    while (at < size) {
        size_t end = at;
        while (end < size && data[end] > 8)
            end++;
        struct span in = span_make(data + at, end - at);
        session_input(&session, &in);
        CHECK(session.in_handled <= session.in_n && session.out_acked <= session.out_n);
        if (end < size)
            answer(data[end]);
        buf_clear(&asked);
        at = end + 1;
    }
    session_lost(&session);
    fixture_end();
    return 0;
}

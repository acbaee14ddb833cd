/* Dialogues with a session: what the client says, what it reads, what the world is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/c2s/session_fixture.h"

#define HEADER                                                             \
    "<stream:stream to='example.org' version='1.0' xmlns='jabber:client' " \
    "xmlns:stream='http://etherx.jabber.org/streams'>"
#define STANZAS "urn:ietf:params:xml:ns:xmpp-stanzas"
#define SASL    "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'"
#define SM      "xmlns='urn:xmpp:sm:3'"

/* The client sends text; what is not taken because of a hold is dropped, so send whole steps. */
static void client(const char *text)
{
    struct span in = span_of(text);
    session_input(&session, &in);
}

/* The client has read exactly that since the last call. */
static void reads(const char *text)
{
    assert_string_equal(buf_cstr(&session.out), text);
    buf_clear(&session.out);
}

/* The client has read something with that in it. */
static void reads_with(const char *part)
{
    if (strstr(buf_cstr(&session.out), part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, buf_cstr(&session.out));
    buf_clear(&session.out);
}

static void lacks(const char *part)
{
    if (strstr(buf_cstr(&session.out), part) != NULL)
        fail_msg("\"%s\" is in \"%s\"", part, buf_cstr(&session.out));
}

/* The world was asked exactly that since the last call. */
static void world(const char *text)
{
    assert_string_equal(buf_cstr(&asked), text);
    buf_clear(&asked);
}

static int begin_clear(void **state)
{
    (void)state;
    fixture_begin(false);
    return 0;
}

static int begin_tls(void **state)
{
    (void)state;
    fixture_begin(true);
    return 0;
}

static int end(void **state)
{
    (void)state;
    fixture_end();
    return 0;
}

/* PLAIN with \0romeo\0secret. */
#define PLAIN_ROMEO "<auth " SASL " mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>"

static struct sasl_keys romeo_keys;

static void log_in(void)
{
    client(HEADER PLAIN_ROMEO);
    world("lookup romeo@example.org\n");
    assert_int_equal(session.state, SESSION_LOOKUP);
    session_account(&session, SESSION_ACCOUNT_FOUND, &romeo_keys);
    reads_with("<success " SASL "></success>");
    client(HEADER);
    buf_clear(&session.out);
    assert_int_equal(session.state, SESSION_BIND);
}

static void log_in_and_bind(void)
{
    log_in();
    client("<iq type='set' id='b1'><bind "
           "xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>balcony</resource></bind></iq>");
    world("open balcony\n");
    session_opened(&session, SPAN("romeo@example.org/balcony"));
    world("bound romeo@example.org/balcony\n");
    reads("<iq type='result' id='b1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>"
          "<jid>romeo@example.org/balcony</jid></bind></iq>");
}

static void test_tls_is_the_only_offer(void **state)
{
    (void)state;
    client("<?xml version='1.0'?>" HEADER);
    reads_with(
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls><limits "
        "xmlns='urn:xmpp:stream-limits:0'><max-bytes>10000</max-bytes></limits></stream:features>");
    client(PLAIN_ROMEO);
    reads_with("<failure " SASL "><encryption-required/>");
}

/* What was sent in clear behind <starttls/> must not be taken as if TLS had protected it (RFC 6120 §5.4.3.3).
 */
static void test_starttls_drops_what_was_injected(void **state)
{
    (void)state;
    client(HEADER);
    buf_clear(&session.out);
    struct span in = SPAN("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" HEADER PLAIN_ROMEO);
    session.env->host->output(&session);
    session_input(&session, &in);
    reads("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    world("start_tls\n");
    assert_true(session.tls);
    assert_int_equal(session.state, SESSION_HEADER);
    assert_int_equal(in.n, 0);
    client(HEADER);
    lacks("starttls");
    reads_with("<mechanism>SCRAM-SHA-256-PLUS</mechanism>");
}

static void test_no_login_in_clear_but_when_allowed(void **state)
{
    (void)state;
    env.require_tls = false;
    client(HEADER);
    lacks("<required/>");
    lacks("PLUS");
    reads_with("<mechanism>SCRAM-SHA-1</mechanism><mechanism>PLAIN</mechanism>");
}

/* Then "y" is no lie. */
static void test_channel_binding_may_be_off(void **state)
{
    (void)state;
    env.channel_binding = false;
    client(HEADER);
    lacks("PLUS");
    lacks("sasl-channel-binding");
    client("<auth " SASL " mechanism='SCRAM-SHA-1'>eSwsbj1yb21lbyxyPWFiYw==</auth>");
    world("lookup romeo@example.org\n");
}

static void test_header_errors(void **state)
{
    (void)state;
    client("<stream:stream to='unknown.example' version='1.0' xmlns='jabber:client' "
           "xmlns:stream='http://etherx.jabber.org/streams'>");
    reads_with("<host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>");
    world("ended 0\n");
}

static void test_error_before_the_header_opens_a_stream(void **state)
{
    (void)state;
    client("<stream:stream to='example.org' version='1.0' xmlns='jabber:server' "
           "xmlns:stream='http://etherx.jabber.org/streams'>");
    assert_non_null(strstr(buf_cstr(&session.out), "<stream:stream "));
    reads_with("<invalid-namespace ");
    world("ended 0\n");
    client("<message/>");
    reads("");
}

static void test_no_version(void **state)
{
    (void)state;
    client("<stream:stream to='example.org' xmlns='jabber:client' "
           "xmlns:stream='http://etherx.jabber.org/streams'>");
    lacks("version='1.0' xmlns");
    reads_with("<unsupported-version ");
}

static void test_features_after_tls(void **state)
{
    (void)state;
    client(HEADER);
    const char *text = buf_cstr(&session.out);
    assert_non_null(strstr(text, "id='ID'"));
    assert_non_null(strstr(text, "from='example.org'"));
    assert_non_null(strstr(text, "<mechanism>SCRAM-SHA-512-PLUS</mechanism>"));
    assert_non_null(strstr(text, "<mechanism>PLAIN</mechanism>"));
    assert_non_null(strstr(text, "<channel-binding type='tls-exporter'/>"));
    assert_null(strstr(text, "tls-server-end-point"));
    assert_null(strstr(text, "EXTERNAL"));
    assert_null(strstr(text, "iq-register"));
    buf_clear(&session.out);
}

static void test_stanza_before_login(void **state)
{
    (void)state;
    client(HEADER);
    buf_clear(&session.out);
    client("<message to='juliet@example.org'><body>hi</body></message>");
    reads_with("<not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>");
    world("ended 0\n");
}

static void test_stanza_before_bind(void **state)
{
    (void)state;
    log_in();
    client("<presence/>");
    reads_with("<not-authorized ");
    world("ended 0\n");
}

static void test_login_and_a_stanza(void **state)
{
    (void)state;
    log_in_and_bind();
    client("<message to='juliet@example.org' from='somebody@else' id='1'><body>hi</body></message>");
    const char *text = buf_cstr(&asked);
    assert_non_null(strstr(text, "stanza 1 0 <message"));
    assert_non_null(strstr(text, "romeo@example.org/balcony"));
    assert_null(strstr(text, "somebody@else"));
    buf_clear(&asked);
    client("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>");
    reads("<iq type='result' id='s'></iq>");
    world("");
    assert_true(session_deliver(&session, 1,
                                SPAN("<message from='juliet@example.org'><body>a</body></message>"),
                                SPAN("romeo@example.org/balcony"), false));
    reads("<message to='romeo@example.org/balcony' from='juliet@example.org'><body>a</body></message>");
    assert_false(session_deliver(&session, 1, SPAN("<message/>"), (struct span){0}, false));
    client("</stream:stream>");
    reads("</stream:stream>");
    world("ended 0\n");
}

static void test_bad_stanzas_are_numbered_too(void **state)
{
    (void)state;
    log_in_and_bind();
    client("<message to='a b@example.org' id='1'/><iq type='get' id='2'/>");
    const char *text = buf_cstr(&asked);
    assert_non_null(strstr(text, "stanza 1 2 "));
    assert_non_null(strstr(text, "stanza 2 3 "));
    buf_clear(&asked);
    client("<unknown xmlns='urn:x'/>");
    reads_with("<unsupported-stanza-type ");
}

static void test_authzid(void **state)
{
    (void)state;
    client(HEADER "<auth " SASL " mechanism='PLAIN'>anVsaWV0QGV4YW1wbGUub3JnAHJvbWVvAHNlY3JldA==</auth>");
    buf_clear(&session.out);
    session_account(&session, SESSION_ACCOUNT_FOUND, &romeo_keys);
    reads_with("<invalid-authzid/>");
}

static void test_locked_account_is_told_after_the_password_only(void **state)
{
    (void)state;
    client(HEADER PLAIN_ROMEO);
    session_account(&session, SESSION_ACCOUNT_DISABLED, &romeo_keys);
    reads_with("<account-disabled/>");
    client("<auth " SASL " mechanism='PLAIN'>AHJvbWVvAHdyb25n</auth>");
    session_account(&session, SESSION_ACCOUNT_DISABLED, &romeo_keys);
    reads_with("<not-authorized/>");
}

static void test_sasl_errors_and_retries(void **state)
{
    (void)state;
    client(HEADER "<auth " SASL " mechanism='X-UNKNOWN'/>");
    reads_with("<invalid-mechanism/>");
    client("<auth " SASL " mechanism='PLAIN'>not base64</auth>");
    reads_with("<incorrect-encoding/>");
    client("<response " SASL "/>");
    reads_with("<malformed-request/>");
    world("ended 0\n");
}

static void test_last_retry_closes_the_stream(void **state)
{
    (void)state;
    env.auth_attempts = 2;
    client(HEADER PLAIN_ROMEO);
    session_account(&session, SESSION_ACCOUNT_NONE, NULL);
    reads_with("<not-authorized/>");
    client(PLAIN_ROMEO);
    session_account(&session, SESSION_ACCOUNT_AWAY, NULL);
    reads_with("<temporary-auth-failure/>");
    assert_int_equal(session.state, SESSION_FEATURES);
    client("<auth " SASL " mechanism='SCRAM-SHA-1'/>");
    reads_with("<challenge ");
    client("<abort " SASL "/>");
    assert_non_null(strstr(buf_cstr(&session.out), "<aborted/>"));
    reads_with("<policy-violation ");
}

/* A client whose binding does not fit tries every mechanism; that must not lock it out before PLAIN. */
static void test_misfits_are_not_failed_logins(void **state)
{
    (void)state;
    env.auth_attempts = 2;
    client(HEADER);
    for (int i = 0; i < 6; i++) { /* y,,n=romeo,r=abc */
        client("<auth " SASL " mechanism='SCRAM-SHA-1'>eSwsbj1yb21lbyxyPWFiYw==</auth>");
        lacks("policy-violation");
        reads_with("<not-authorized/>");
    }
    world("");
    client(PLAIN_ROMEO);
    session_account(&session, SESSION_ACCOUNT_FOUND, &romeo_keys);
    reads_with("<success ");
}

static void test_bind_errors(void **state)
{
    (void)state;
    log_in();
    client("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    world("open \n");
    session_refused(&session, STANZA_E_RESOURCE_CONSTRAINT, SPAN("too many"));
    reads("<iq type='error' id='1'><error type='wait'><resource-constraint xmlns='" STANZAS
          "'/><text xmlns='" STANZAS "' xml:lang='en'>too many</text></error></iq>");
    for (int i = 0; i < 6; i++)
        client("<iq type='get' id='2'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    lacks("policy-violation");
    reads_with("<bad-request ");
    client("<iq type='get' id='2'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    reads_with("<policy-violation ");
}

static void test_input_waits_while_a_question_is_open(void **state)
{
    (void)state;
    log_in();
    struct span in =
        SPAN("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq><presence/>");
    session_input(&session, &in);
    assert_int_equal(in.n, strlen("<presence/>"));
    session_opened(&session, SPAN("romeo@example.org/r"));
    buf_clear(&asked);
    session_input(&session, &in);
    assert_non_null(strstr(buf_cstr(&asked), "stanza 1 0 <presence"));
}

static void test_registration(void **state)
{
    (void)state;
    env.registration = true;
    client(HEADER);
    reads_with("<register xmlns='http://jabber.org/features/iq-register'/>");
    client("<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>");
    reads_with("<username/><password/>");
    client("<iq type='set' id='2'><query "
           "xmlns='jabber:iq:register'><username>Bill</username><password>p&amp;q</password>"
           "</query></iq>");
    world("create bill@example.org p&q\n");
    session_created(&session, SESSION_CREATED_EXISTS);
    reads_with("<conflict ");
    client("<iq type='set' id='3'><query "
           "xmlns='jabber:iq:register'><username>bob</username><password>x</password>"
           "</query></iq>");
    session_created(&session, SESSION_CREATED_TOO_MANY);
    reads_with("<error type='wait'><resource-constraint ");
    buf_clear(&asked);
    client("<iq type='set' id='4'><query "
           "xmlns='jabber:iq:register'><username>bob</username><password>x</password>"
           "</query></iq>");
    world("create bob@example.org x\n");
    session_created(&session, SESSION_CREATED);
    reads("<iq type='result' id='4'/>");
    assert_int_equal(session.state, SESSION_FEATURES);
    /* One account a connection. */
    client("<iq type='set' id='5'><query "
           "xmlns='jabber:iq:register'><username>eve</username><password>x</password>"
           "</query></iq>");
    reads_with("<not-allowed ");
    assert_null(strstr(buf_cstr(&asked), "create eve"));
    assert_int_equal(session.state, SESSION_FEATURES);
}

static void test_registration_is_off(void **state)
{
    (void)state;
    client(HEADER "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>");
    reads_with("<not-authorized ");
}

/* ---- stream management ---- */

static void enable(void)
{
    client("<enable " SM " resume='true' max='60'/>");
    world("enable 60\n");
    session_enabled(&session, SPAN("sm-1"), 60, 0);
    reads("<enabled " SM " id='sm-1' resume='true' max='60'/>");
}

static void test_sm_counts_what_is_handled(void **state)
{
    (void)state;
    log_in_and_bind();
    client("<presence/>"); /* before <enable/>: not counted */
    session_handled(&session, 1);
    buf_clear(&asked);
    enable();
    client("<message/><message/><r " SM "/>");
    reads("<a " SM " h='0'/>");
    session_handled(&session, 2);
    reads("");
    session_handled(&session, 3);
    reads("<a " SM " h='2'/>");
    session_handled(&session, 3);
    reads("");
    client("<r " SM "/>");
    reads("<a " SM " h='2'/>");
}

static void test_sm_asks_for_what_must_be_confirmed(void **state)
{
    (void)state;
    log_in_and_bind();
    enable();
    session_deliver(&session, 1, SPAN("<presence/>"), (struct span){0}, false);
    session_turn_end(&session);
    reads("<presence/>");
    session_deliver(&session, 2, SPAN("<message/>"), (struct span){0}, true);
    session_turn_end(&session);
    reads("<message/><r " SM "/>");
    session_deliver(&session, 3, SPAN("<message/>"), (struct span){0}, true);
    session_turn_end(&session);
    reads("<message/>");
    client("<a " SM " h='2'/>");
    world("acked 2\n");
    session_turn_end(&session);
    reads("<r " SM "/>");
    client("<a " SM " h='3'/>");
    world("acked 3\n");
    session_turn_end(&session);
    reads("");
    client("<a " SM " h='4'/>");
    reads_with("<undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>");
    world("ended 0\n");
}

/* A client that answers without having counted all must not be asked in a circle. */
static void test_sm_does_not_ask_in_a_circle(void **state)
{
    (void)state;
    log_in_and_bind();
    enable();
    session_deliver(&session, 1, SPAN("<message/>"), (struct span){0}, true);
    session_deliver(&session, 2, SPAN("<message/>"), (struct span){0}, true);
    session_turn_end(&session);
    buf_clear(&session.out);
    client("<a " SM " h='1'/>");
    session_turn_end(&session);
    reads("");
    session_deliver(&session, 3, SPAN("<message/>"), (struct span){0}, true);
    session_turn_end(&session);
    reads("<message/><r " SM "/>");
}

/* The closing tag waits for the last h. */
static void test_sm_last_h_before_the_end(void **state)
{
    (void)state;
    log_in_and_bind();
    enable();
    client("<message/><message/><r " SM "/></stream:stream><message/>");
    reads("<a " SM " h='0'/>");
    assert_int_equal(session.state, SESSION_CLOSING);
    assert_non_null(strstr(buf_cstr(&asked), "closing\n"));
    assert_null(strstr(buf_cstr(&asked), "stanza 3"));
    session_handled(&session, 1);
    reads("");
    assert_false(session_deliver(&session, 1, SPAN("<message/>"), (struct span){0}, true));
    buf_clear(&asked);
    session_handled(&session, 2);
    reads("<a " SM " h='2'/></stream:stream>");
    world("ended 0\n");
}

/* But not for ever, and a connection that breaks meanwhile has ended in good order. */
static void test_sm_end_is_bounded(void **state)
{
    (void)state;
    for (unsigned lost = 0; lost < 2; lost++) {
        if (lost > 0) {
            fixture_end();
            fixture_begin(true);
        }
        log_in_and_bind();
        enable();
        client("<message/><message/></stream:stream>");
        session_handled(&session, 1);
        buf_clear(&asked);
        reads("");
        if (lost > 0)
            session_lost(&session);
        else
            session_closed(&session);
        reads("<a " SM " h='1'/></stream:stream>");
        world("ended 0\n");
    }
}

/* <enabled/> may be under way. */
static void test_sm_end_waits_for_enabled(void **state)
{
    (void)state;
    log_in_and_bind();
    client("<enable " SM "/><message/></stream:stream>");
    assert_int_equal(session.state, SESSION_CLOSING);
    session_handled(&session, 1);
    buf_clear(&asked);
    session_enabled(&session, (struct span){0}, 0, 0);
    reads("<enabled " SM "/><a " SM " h='1'/></stream:stream>");
    world("ended 0\n");
}

static void test_sm_before_login(void **state)
{
    (void)state;
    client(HEADER);
    buf_clear(&session.out);
    client("<enable " SM "/><resume " SM " previd='x' h='0'/>");
    reads("<failed " SM "><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
          "<failed " SM "><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>");
    assert_int_equal(session.state, SESSION_FEATURES);
    client("<r " SM "/>");
    reads_with("<unsupported-stanza-type ");
}

static void test_sm_too_high_names_the_numbers(void **state)
{
    (void)state;
    log_in_and_bind();
    enable();
    session_deliver(&session, 1, SPAN("<message/>"), (struct span){0}, true);
    buf_clear(&session.out);
    client("<a " SM " h='10'/>");
    reads_with("<handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='1'/>");
}

static void test_sm_counters_wrap(void **state)
{
    (void)state;
    log_in();
    client("<resume " SM " previd='old' h='4294967295'/>");
    world("resume old 4294967295\n");
    session_resumed(&session, SPAN("romeo@example.org/balcony"), 7, 4294967295u, 100);
    world("bound romeo@example.org/balcony\n");
    reads("<resumed " SM " previd='old' h='4294967295'/>");
    session_deliver(&session, 101, SPAN("<message/>"), (struct span){0}, true);
    session_deliver(&session, 102, SPAN("<message/>"), (struct span){0}, true);
    buf_clear(&session.out);
    client("<a " SM " h='1'/>");
    world("acked 102\n");
    client("<message/><r " SM "/>");
    buf_clear(&asked);
    session_handled(&session, 8);
    reads("<a " SM " h='4294967295'/><a " SM " h='0'/>");
}

static void test_sm_resume_without_a_number_takes_the_first_delivery(void **state)
{
    (void)state;
    log_in();
    client("<resume " SM " previd='old' h='5'/>");
    session_resumed(&session, SPAN("romeo@example.org/balcony"), 3, 3, 0);
    buf_clear(&asked);
    buf_clear(&session.out);
    session_deliver(&session, 9, SPAN("<message/>"), (struct span){0}, true);
    buf_clear(&session.out);
    client("<a " SM " h='6'/>");
    world("acked 9\n");
}

static void test_sm_resume_failed(void **state)
{
    (void)state;
    log_in();
    client("<resume " SM " previd='old' h='5'/>");
    world("resume old 5\n");
    session_resume_failed(&session, STANZA_E_ITEM_NOT_FOUND, true, 8);
    reads("<failed " SM " h='8'><item-not-found xmlns='" STANZAS "'/></failed>");
    client("<resume " SM " previd='' h='x'/>");
    reads("<failed " SM "><bad-request xmlns='" STANZAS "'/></failed>");
    client("<enable " SM "/>");
    reads("<failed " SM "><unexpected-request xmlns='" STANZAS "'/></failed>");
    client("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    world("open \n");
}

static void test_sm_twice(void **state)
{
    (void)state;
    log_in_and_bind();
    enable();
    client("<enable " SM "/>");
    reads("<failed " SM "><unexpected-request xmlns='" STANZAS "'/></failed>");
}

/* However a dialogue is cut into pieces, the same comes out. */
static void test_split_anywhere(void **state)
{
    (void)state;
    static const char text[] = HEADER PLAIN_ROMEO;
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        fixture_end();
        fixture_begin(true);
        struct span in = span_make(text, cut);
        session_input(&session, &in);
        in = span_make(text + cut, sizeof(text) - 1 - cut);
        session_input(&session, &in);
        world("lookup romeo@example.org\n");
    }
}

int main(void)
{
    if (!sasl_keys_derive(SPAN("secret"), 4096, &romeo_keys))
        return 1;
#define CLEAR(f) cmocka_unit_test_setup_teardown(f, begin_clear, end)
#define TLS(f)   cmocka_unit_test_setup_teardown(f, begin_tls, end)
    const struct CMUnitTest tests[] = {
        CLEAR(test_tls_is_the_only_offer),
        CLEAR(test_starttls_drops_what_was_injected),
        CLEAR(test_no_login_in_clear_but_when_allowed),
        CLEAR(test_header_errors),
        CLEAR(test_error_before_the_header_opens_a_stream),
        CLEAR(test_no_version),
        TLS(test_features_after_tls),
        TLS(test_channel_binding_may_be_off),
        TLS(test_stanza_before_login),
        TLS(test_stanza_before_bind),
        TLS(test_login_and_a_stanza),
        TLS(test_bad_stanzas_are_numbered_too),
        TLS(test_authzid),
        TLS(test_locked_account_is_told_after_the_password_only),
        TLS(test_sasl_errors_and_retries),
        TLS(test_last_retry_closes_the_stream),
        TLS(test_misfits_are_not_failed_logins),
        TLS(test_bind_errors),
        TLS(test_input_waits_while_a_question_is_open),
        TLS(test_registration),
        TLS(test_registration_is_off),
        TLS(test_sm_counts_what_is_handled),
        TLS(test_sm_asks_for_what_must_be_confirmed),
        TLS(test_sm_does_not_ask_in_a_circle),
        TLS(test_sm_too_high_names_the_numbers),
        TLS(test_sm_last_h_before_the_end),
        TLS(test_sm_end_is_bounded),
        TLS(test_sm_end_waits_for_enabled),
        TLS(test_sm_before_login),
        TLS(test_sm_counters_wrap),
        TLS(test_sm_resume_without_a_number_takes_the_first_delivery),
        TLS(test_sm_resume_failed),
        TLS(test_sm_twice),
        TLS(test_split_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

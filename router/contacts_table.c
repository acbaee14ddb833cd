/* Appendix A of RFC 6121 as two tables: for each stanza type and each of the nine states the new state, and
 * whether the stanza goes on (outbound: routed; inbound: delivered). What follows from a change (roster push,
 * presence, automatic answers) is derived from the difference between the states. Pre-approval (§3.4) lies
 * beside the nine states and is handled around the tables. */
#include "router/contacts.h"

enum {
    N = 0,
    T = CONTACT_TO,
    F = CONTACT_FROM,
    B = CONTACT_TO | CONTACT_FROM,
    NO = CONTACT_PENDING_OUT,
    NI = CONTACT_PENDING_IN,
    NOI = CONTACT_PENDING_OUT | CONTACT_PENDING_IN,
    TI = CONTACT_TO | CONTACT_PENDING_IN,
    FO = CONTACT_FROM | CONTACT_PENDING_OUT,
    VISIBLE = CONTACT_TO | CONTACT_FROM | CONTACT_PENDING_OUT | CONTACT_PREAPPROVED
};

#define GO 0x80 /* route or deliver */

/* Columns: the states in the order of A.1. Rows: subscribe, subscribed, unsubscribe, unsubscribed. */
static const uint8_t columns[9] = {N, NO, NI, NOI, T, TI, F, FO, B};

/* clang-format off */
static const uint8_t outbound[4][9] = {
    /*                N        NO       NI       NOI       T        TI       F        FO       B     */
    /* A.2.1 */ {GO | NO, GO | NO, GO | NOI, GO | NOI, GO | T,  GO | TI, GO | FO, GO | FO, GO | B},
    /* A.2.3 */ {     N,       NO, GO | F,   GO | FO,       T,  GO | B,       F,       FO,      B},
    /* A.2.2 */ {GO | N,  GO | N,  GO | NI,  GO | NI,  GO | N,  GO | NI, GO | F,  GO | F,  GO | F},
    /* A.2.4 */ {     N,       NO, GO | N,   GO | NO,       T,  GO | T,  GO | N,  GO | NO, GO | T},
};

static const uint8_t inbound[4][9] = {
    /* A.3.1 */ {GO | NI, GO | NOI,     NI,       NOI, GO | TI,      TI,      F,       FO,      B},
    /* A.3.3 */ {     N,  GO | T,       NI,  GO | TI,       T,       TI,      F,  GO | B,       B},
    /* A.3.2 */ {     N,       NO, GO | N,   GO | NO,       T,  GO | T,  GO | N,  GO | NO, GO | T},
    /* A.3.4 */ {     N,  GO | N,       NI,  GO | NI,  GO | N,  GO | NI,      F,  GO | F,  GO | F},
};
/* clang-format on */

static int row_of(enum stanza_type type)
{
    switch (type) {
    case STANZA_SUBSCRIBE:
        return 0;
    case STANZA_SUBSCRIBED:
        return 1;
    case STANZA_UNSUBSCRIBE:
        return 2;
    case STANZA_UNSUBSCRIBED:
        return 3;
    default:
        return -1;
    }
}

uint8_t contacts_normal_state(uint8_t state)
{
    state &= VISIBLE | CONTACT_PENDING_IN;
    if (state & CONTACT_TO)
        state &= (uint8_t)~CONTACT_PENDING_OUT;
    if (state & CONTACT_FROM)
        state &= (uint8_t)~CONTACT_PENDING_IN;
    return state;
}

/* Looks the cell up; *state is made normal first. */
static struct contact_change look_up(const uint8_t table[4][9], uint8_t *state, enum stanza_type type)
{
    *state = contacts_normal_state(*state);
    struct contact_change change = {.state = *state};
    int row = row_of(type);
    if (row < 0)
        return change;
    uint8_t approved = *state & CONTACT_PREAPPROVED;
    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        if (columns[i] != (*state & ~CONTACT_PREAPPROVED))
            continue;
        uint8_t cell = table[row][i];
        change.route = (cell & GO) != 0;
        change.state = (cell & (uint8_t)~GO) | approved;
    }
    return change;
}

/* What shows in the roster, and who may see us now. */
static void conclude(struct contact_change *change, uint8_t before)
{
    change->push = (change->state & VISIBLE) != (before & VISIBLE);
    change->send_presence |= (change->state & ~before & CONTACT_FROM) != 0;
    change->send_unavailable = (before & ~change->state & CONTACT_FROM) != 0;
}

struct contact_change contacts_outbound(uint8_t state, enum stanza_type type)
{
    struct contact_change change = look_up(outbound, &state, type);
    /* A `subscribed` that nobody has asked for is a pre-approval; `unsubscribed` takes one back. */
    if (type == STANZA_SUBSCRIBED && !change.route && !(state & CONTACT_FROM))
        change.state |= CONTACT_PREAPPROVED;
    if (type == STANZA_UNSUBSCRIBED)
        change.state &= (uint8_t)~CONTACT_PREAPPROVED;
    conclude(&change, state);
    return change;
}

struct contact_change contacts_inbound(uint8_t state, enum stanza_type type)
{
    struct contact_change change = look_up(inbound, &state, type);
    if (type == STANZA_SUBSCRIBE && (state & CONTACT_FROM)) {
        /* The other side has lost what it had: it needs our presence too. */
        change.auto_subscribed = true;
        change.send_presence = true;
    } else if (type == STANZA_SUBSCRIBE && (state & CONTACT_PREAPPROVED)) {
        change.route = false;
        change.auto_subscribed = true;
        change.state = contacts_normal_state(state | CONTACT_FROM);
    }
    if (type == STANZA_UNSUBSCRIBE)
        change.auto_unsubscribed = change.route;
    conclude(&change, state);
    return change;
}

const char *contacts_subscription(uint8_t state)
{
    static const char *const names[] = {"none", "to", "from", "both"};
    return names[state & (CONTACT_TO | CONTACT_FROM)];
}

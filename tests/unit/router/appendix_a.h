/* The 72 cells of RFC 6121 appendix A, spelled out from its tables 2 to 9. */
#ifndef JACKDAW_TESTS_APPENDIX_A_H
#define JACKDAW_TESTS_APPENDIX_A_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "router/contacts.h"

static const char *const state_names[] = {"None",  "None+Out", "None+In",  "None+Out+In", "To",
                                          "To+In", "From",     "From+Out", "Both"};
static const uint8_t states[] = {
    0,
    CONTACT_PENDING_OUT,
    CONTACT_PENDING_IN,
    CONTACT_PENDING_OUT | CONTACT_PENDING_IN,
    CONTACT_TO,
    CONTACT_TO | CONTACT_PENDING_IN,
    CONTACT_FROM,
    CONTACT_FROM | CONTACT_PENDING_OUT,
    CONTACT_TO | CONTACT_FROM,
};

static uint8_t state_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strcmp(name, state_names[i]) == 0)
            return states[i];
    fail_msg("no state is called %s", name);
    return 0;
}

struct cell {
    const char *from;
    bool go;
    const char *to; /* NULL = no state change */
};

struct table {
    bool outbound;
    enum stanza_type type;
    struct cell cells[9];
};

static const struct table tables[] = {
    {true,
     STANZA_SUBSCRIBE,
     {{"None", true, "None+Out"},
      {"None+Out", true, NULL},
      {"None+In", true, "None+Out+In"},
      {"None+Out+In", true, NULL},
      {"To", true, NULL},
      {"To+In", true, NULL},
      {"From", true, "From+Out"},
      {"From+Out", true, NULL},
      {"Both", true, NULL}}},
    {true,
     STANZA_UNSUBSCRIBE,
     {{"None", true, NULL},
      {"None+Out", true, "None"},
      {"None+In", true, NULL},
      {"None+Out+In", true, "None+In"},
      {"To", true, "None"},
      {"To+In", true, "None+In"},
      {"From", true, NULL},
      {"From+Out", true, "From"},
      {"Both", true, "From"}}},
    {true,
     STANZA_SUBSCRIBED,
     {{"None", false, NULL},
      {"None+Out", false, NULL},
      {"None+In", true, "From"},
      {"None+Out+In", true, "From+Out"},
      {"To", false, NULL},
      {"To+In", true, "Both"},
      {"From", false, NULL},
      {"From+Out", false, NULL},
      {"Both", false, NULL}}},
    {true,
     STANZA_UNSUBSCRIBED,
     {{"None", false, NULL},
      {"None+Out", false, NULL},
      {"None+In", true, "None"},
      {"None+Out+In", true, "None+Out"},
      {"To", false, NULL},
      {"To+In", true, "To"},
      {"From", true, "None"},
      {"From+Out", true, "None+Out"},
      {"Both", true, "To"}}},
    {false,
     STANZA_SUBSCRIBE,
     {{"None", true, "None+In"},
      {"None+Out", true, "None+Out+In"},
      {"None+In", false, NULL},
      {"None+Out+In", false, NULL},
      {"To", true, "To+In"},
      {"To+In", false, NULL},
      {"From", false, NULL},
      {"From+Out", false, NULL},
      {"Both", false, NULL}}},
    {false,
     STANZA_UNSUBSCRIBE,
     {{"None", false, NULL},
      {"None+Out", false, NULL},
      {"None+In", true, "None"},
      {"None+Out+In", true, "None+Out"},
      {"To", false, NULL},
      {"To+In", true, "To"},
      {"From", true, "None"},
      {"From+Out", true, "None+Out"},
      {"Both", true, "To"}}},
    {false,
     STANZA_SUBSCRIBED,
     {{"None", false, NULL},
      {"None+Out", true, "To"},
      {"None+In", false, NULL},
      {"None+Out+In", true, "To+In"},
      {"To", false, NULL},
      {"To+In", false, NULL},
      {"From", false, NULL},
      {"From+Out", true, "Both"},
      {"Both", false, NULL}}},
    {false,
     STANZA_UNSUBSCRIBED,
     {{"None", false, NULL},
      {"None+Out", true, "None"},
      {"None+In", false, NULL},
      {"None+Out+In", true, "None+In"},
      {"To", true, "None"},
      {"To+In", true, "None+In"},
      {"From", false, NULL},
      {"From+Out", true, "From"},
      {"Both", true, "From"}}},
};

#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "s2s/role.h"
#include "s2s/witness.h"

/* What README's table and the DOAP file say of this process: jackdaw-s2s --specs. */
static const char specs[] = "RFC-6120 13 server streams, SASL EXTERNAL\n"
                            "RFC-7673 3 DANE for outgoing streams\n"
                            "RFC-7711 3-6 POSH\n"
                            "XEP-0114 1.6 components\n"
                            "XEP-0178 1.2 SASL EXTERNAL with certificates\n"
                            "XEP-0185 1.0 dialback keys\n"
                            "XEP-0198 1.6.3 stream management\n"
                            "XEP-0220 1.1.1 dialback\n"
                            "XEP-0225 0.2 components: TLS, SASL, several host names\n"
                            "XEP-0288 1.0.1 bidirectional server streams\n"
                            "XEP-0356 0.4.1 privileged components: messages\n"
                            "XEP-0368 1.1.0 direct TLS\n";

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--specs") == 0) {
        fputs(specs, stdout);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--witness") == 0) /* witness.c starts it so */
        return witness_main(atoi(argv[2]));
    return proc_main(argc, argv, &s2s_role);
}

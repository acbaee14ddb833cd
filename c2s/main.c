#include <stdio.h>
#include <string.h>

#include "c2s/role.h"

/* What README's table and the DOAP file say of this process: jackdaw-c2s --specs. */
static const char specs[] = "RFC-6120 4-8 streams, login, binding\n"
                            "RFC-7590 3 TLS\n"
                            "RFC-7622 3 addresses\n"
                            "RFC-5802 5 SCRAM-SHA-1(-PLUS)\n"
                            "RFC-7677 3 SCRAM-SHA-256(-PLUS)\n"
                            "RFC-9266 2 tls-exporter channel binding\n"
                            "XEP-0198 1.6.3 stream management\n"
                            "XEP-0368 1.1.0 direct TLS\n"
                            "XEP-0440 1.0.0 channel-binding types\n"
                            "XEP-0474 0.5.0 SCRAM downgrade protection\n"
                            "XEP-0478 0.2.0 stream limits\n";

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--specs") == 0) {
        fputs(specs, stdout);
        return 0;
    }
    return proc_main(argc, argv, &c2s_role);
}

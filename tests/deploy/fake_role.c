/* Stands for jackdaw-router, -c2s and -s2s in the tests of deploy/run: the real command line and stats
 * endpoint, no loop, no Redis. A file FAKE_DIR/NAME.refuse makes it end with a message; a file
 * FAKE_DIR/NAME.wait makes it not ready. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/config/conf.h"
#include "common/proc/args.h"
#include "common/proc/endpoint.h"

static bool wished(const char *name, const char *what)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.%s", getenv("FAKE_DIR"), name, what);
    return access(path, F_OK) == 0;
}

static int serve(const struct args *a, const struct conf *c)
{
    char *error = NULL;
    struct endpoint *e = endpoint_open(c->stats_listen, &error);
    if (e == NULL || !endpoint_start(e, &error)) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    if (!wished(a->name, "wait"))
        endpoint_set_not_ready(e, NULL);
    int number = 0;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigwait(&set, &number);
    fprintf(stderr, "%s ended by SIGTERM\n", a->name);
    endpoint_free(e);
    return 0;
}

int main(int argc, char **argv)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct args a = {0};
    struct buf out = {0};
    if (!args_parse(&a, argc, argv, &out))
        return 2;
    struct conf *c = args_conf(&a, &out);
    int code = 1;
    if (c == NULL) {
        fputs(buf_cstr(&out), stderr);
    } else if (a.action == ARGS_ACTION_PRINT_CONFIG) {
        conf_write(c, &out);
        fputs(buf_cstr(&out), stdout);
        code = 0;
    } else if (wished(a.name, "refuse")) {
        fprintf(stderr, "%s refuses to start\n", a.name);
    } else {
        code = serve(&a, c);
    }
    conf_free(c);
    args_free(&a);
    buf_free(&out);
    return code;
}

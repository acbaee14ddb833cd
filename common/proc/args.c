/* A table-free scan: five options, each either a flag or followed by a value ("--name=x" works too). */
#include "common/proc/args.h"

#include <stdlib.h>

#include "common/config/conf.h"

/* When argv[*at] is `option`, stores its value (the rest behind '=' or the next argument) and moves *at over
 * it. */
static bool take_value(const char *option, int argc, char **argv, int *at, const char **value)
{
    size_t n = strlen(option);
    const char *arg = argv[*at];
    if (strncmp(arg, option, n) != 0 || (arg[n] != '\0' && arg[n] != '='))
        return false;
    if (arg[n] == '=')
        *value = arg + n + 1;
    else
        *value = *at + 1 < argc ? argv[++*at] : NULL;
    return true;
}

bool args_name_ok(const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-._";
    size_t n = strlen(name);
    return n >= 1 && n <= 63 && strspn(name, allowed) == n && name[0] != '.';
}

static void args_add_set(struct args *a, const char *assignment)
{
    a->sets = xrealloc(a->sets, (a->set_count + 1) * sizeof *a->sets);
    a->sets[a->set_count++] = assignment;
}

bool args_parse(struct args *a, int argc, char **argv, struct buf *errors)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = "";
        if (take_value("--config", argc, argv, &i, &value)) {
            a->config = value;
        } else if (take_value("--name", argc, argv, &i, &value)) {
            a->name = value;
        } else if (take_value("--set", argc, argv, &i, &value)) {
            if (value != NULL)
                args_add_set(a, value);
        } else if (strcmp(option, "--print-config") == 0) {
            a->action = ARGS_ACTION_PRINT_CONFIG;
        } else if (strcmp(option, "--version") == 0) {
            a->action = ARGS_ACTION_VERSION;
        } else if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            a->action = ARGS_ACTION_HELP;
        } else {
            buf_addf(errors, "unknown argument %s; --help shows what there is\n", option);
            return false;
        }
        if (value == NULL) {
            buf_addf(errors, "%s needs a value\n", option);
            return false;
        }
    }
    if (a->name != NULL && !args_name_ok(a->name)) {
        buf_addf(errors, "--name %s: 1 to 63 of a-z, 0-9, '-', '.', '_'\n", a->name);
        return false;
    }
    return true;
}

void args_free(struct args *a)
{
    free(a->sets);
    *a = (struct args){0};
}

void args_usage(struct buf *out, const char *role)
{
    buf_addf(out,
             "usage: jackdaw-%s [--config FILE] [--name NAME] [--set section.name=value]...\n"
             "  --config FILE     the configuration; every option has a default\n"
             "  --name NAME       this process's name in the cluster (default: %s-1)\n"
             "  --set KEY=VALUE   sets one option over the file; lists: a,b,c\n"
             "  --print-config    prints the configuration in force with every option's text, and ends\n"
             "  --version         prints the version, and ends\n",
             role, role);
}

struct conf *args_conf(const struct args *a, struct buf *errors)
{
    struct conf *c = conf_new();
    bool ok = true;
    if (a->config != NULL)
        ok = conf_load(c, a->config, errors);
    for (unsigned i = 0; i < a->set_count; i++)
        ok = conf_set(c, a->sets[i], errors) && ok;
    conf_load_environment(c);
    if (!ok) {
        conf_free(c);
        return NULL;
    }
    return c;
}

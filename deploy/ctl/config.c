/* config-check and sample-config. */
#include "common/config/conf.h"

#include <stdio.h>

#include "common/proc/check.h"
#include "deploy/ctl/ctl.h"

int ctl_config_check(struct ctl *c)
{
    struct buf errors = {0};
    if (!ctl_arguments(c, 0, 1))
        return CTL_USAGE;
    const char *file = c->argc == 1 ? c->argv[0] : c->config_file;
    if (file == NULL)
        return ctl_fail(c, CTL_USAGE, "config-check: name a file (or --dir, --config)");
    c->conf = conf_new();
    bool good = conf_load(c->conf, file, &errors);
    good = check_values(c->conf, &errors) && good;
    good = check_files(c->conf, &errors) && good;
    int code = good ? CTL_OK : CTL_REFUSED;
    if (good)
        ctl_done(c, "%s is fine", file);
    while (errors.n > 0 && errors.p[errors.n - 1] == '\n')
        errors.n--;
    if (!good && c->json)
        ctl_fail(c, CTL_REFUSED, "%s", buf_cstr(&errors));
    else if (!good)
        fprintf(stderr, "%s\n", buf_cstr(&errors));
    buf_free(&errors);
    return code;
}

int ctl_sample_config(struct ctl *c)
{
    struct buf out = {0};
    if (!ctl_arguments(c, 0, 0))
        return CTL_USAGE;
    c->conf = conf_new();
    conf_write(c->conf, &out);
    ctl_print(&out);
    return CTL_OK;
}

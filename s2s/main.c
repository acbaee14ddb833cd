#include "s2s/role.h"

int main(int argc, char **argv)
{
    return proc_main(argc, argv, &s2s_role);
}

#include "c2s/role.h"

int main(int argc, char **argv)
{
    return proc_main(argc, argv, &c2s_role);
}

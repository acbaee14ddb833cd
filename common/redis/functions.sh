#!/bin/sh
# Makes functions.c from functions.lua: the library as a C string. Run it after every change; a test compares.
set -eu
cd "$(dirname "$0")"
{
    echo '/* Made from functions.lua by functions.sh. Do not edit. */'
    echo '#include "common/redis/functions.h"'
    echo
    echo '/* clang-format off */'
    echo 'const char redis_functions_lua[] ='
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/?/\\?/g' -e 's/^/    "/' -e 's/$/\\n"/' functions.lua
    echo '    ;'
} > functions.c

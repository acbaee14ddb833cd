/* The Redis functions library of functions.lua as text, to be loaded at every connect. */
#ifndef JACKDAW_REDIS_FUNCTIONS_H
#define JACKDAW_REDIS_FUNCTIONS_H

/* The whole library, NUL-terminated, exactly the bytes of functions.lua. */
extern const char redis_functions_lua[];

#endif

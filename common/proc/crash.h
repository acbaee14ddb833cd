/* The crash report: what died, where, and on what it worked, to standard error; then the signal takes its
 * course (core dump, exit status). */
#ifndef JACKDAW_PROC_CRASH_H
#define JACKDAW_PROC_CRASH_H

/* Installs handlers for SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT. role and name are borrowed for good.
 * note (may be NULL) is called in the handler, once, to print what is being worked on; if it crashes too, the
 * report ends there. Under a sanitizer only SIGABRT is taken: its own reports say more. */
void crash_install(const char *role, const char *name, void (*note)(void));

#endif

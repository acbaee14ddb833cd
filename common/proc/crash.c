/* The handler runs on a stack of its own and uses write(2) and backtrace_symbols_fd only; the note of the
 * role may do more, since the process is lost anyhow: SA_RESETHAND ends a crash within the crash. */
#include "common/proc/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "common/base/base.h"

static const char *crash_role = "?";
static const char *crash_name = "?";
static void (*crash_note)(void);

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        return;
}

static const char *signal_word(int number)
{
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    default:
        return "SIGABRT";
    }
}

/* Where it happened; after a jump to nowhere (a NULL function) backtrace sees nothing, but the return address
 * is still on top of the stack. */
static void say_place(const ucontext_t *context)
{
#if defined(__x86_64__)
    void *place[2] = {(void *)context->uc_mcontext.gregs[REG_RIP], NULL};
    if (place[0] == NULL)
        place[1] = *(void **)context->uc_mcontext.gregs[REG_RSP];
    say("at, called from:\n");
    backtrace_symbols_fd(place, place[1] != NULL ? 2 : 1, STDERR_FILENO);
#else
    (void)context;
#endif
}

static void on_crash(int number, siginfo_t *info, void *context)
{
    void *frames[64];
    char where[40];
    snprintf(where, sizeof where, " address=%p", number == SIGABRT ? NULL : info->si_addr);
    say("\n=== CRASH role=");
    say(crash_role);
    say(" name=");
    say(crash_name);
    say(" version=" JACKDAW_VERSION " signal=");
    say(signal_word(number));
    say(where);
    say("\n");
    say_place(context);
    say("backtrace:\n");
    int depth = backtrace(frames, ARRAY_LEN(frames));
    backtrace_symbols_fd(frames, depth, STDERR_FILENO);
    if (crash_note != NULL) {
        void (*note)(void) = crash_note;
        crash_note = NULL;
        say("working on: ");
        note();
    }
    say("=== CRASH END (addr2line -f -e BINARY +0x... names the lines)\n");
    raise(number);
}

void crash_install(const char *role, const char *name, void (*note)(void))
{
    static char stack[64 * 1024];
    void *frame;
    crash_role = role;
    crash_name = name;
    crash_note = note;
    (void)backtrace(&frame, 1); /* loads libgcc now, not in the handler */

    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&alternate, NULL);
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    action.sa_flags |= (int)SA_RESETHAND | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGABRT, &action, NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
#endif
}

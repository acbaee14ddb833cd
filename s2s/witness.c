/* The process's side: a memory file with the ledger, a socket pair, and the same program started once more.
 * What it is told stays in the socket pair when this process dies. */
#include "s2s/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/config/conf.h"
#include "common/log/log.h"

#define WITNESS_FD 3 /* its end of the pair, in its own table */
#define PATIENCE_S 2 /* for its reading; it has nothing else to do */

struct witness {
    int fd; /* -1: it is lost */
    struct ledger *ledger;
};

static void lost(struct witness *w, const char *what)
{
    log_error(
        "s2s",
        "the witness cannot be reached (%s: %m): should this process die, stanzas that are under way then "
        "come twice; restart it when convenient",
        what);
    close(w->fd);
    w->fd = -1;
}

static void tell(struct witness *w, struct witness_message *m, size_t text_n, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec bytes = {m, WITNESS_HEADER + text_n};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (w == NULL || w->fd < 0)
        return;
    if (fd >= 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(w->fd, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        lost(w, "sendmsg");
}

static bool spawn(int fd)
{
    extern char **environ;
    char number[16];
    char *argv[] = {(char *)"jackdaw-s2s-witness", (char *)"--witness", number, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    snprintf(number, sizeof number, "%d", WITNESS_FD);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, WITNESS_FD);
    posix_spawn_file_actions_addclosefrom_np(&actions, WITNESS_FD + 1);
    errno = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ);
    bool good = errno == 0;
    posix_spawn_file_actions_destroy(&actions);
    return good;
}

/* Both ends and the ledger. False with errno set; what was opened is in *w and pair. */
static bool prepare(struct witness *w, int pair[2], int *memory)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    *memory = memfd_create("s2s-ledger", MFD_CLOEXEC);
    if (*memory < 0 || ftruncate(*memory, sizeof *w->ledger) != 0)
        return false;
    void *at = mmap(NULL, sizeof *w->ledger, PROT_READ | PROT_WRITE, MAP_SHARED, *memory, 0);
    if (at == MAP_FAILED)
        return false;
    w->ledger = at;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    w->fd = pair[0];
    setsockopt(w->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    /* dup2 onto itself would leave close-on-exec set. */
    if (pair[1] == WITNESS_FD) {
        int other = fcntl(pair[1], F_DUPFD_CLOEXEC, WITNESS_FD + 1);
        close(pair[1]);
        pair[1] = other;
    }
    return pair[1] >= 0 && spawn(pair[1]);
}

struct witness *witness_start(const char *process, const struct conf *conf)
{
    struct witness *w = xcalloc(1, sizeof *w);
    int pair[2] = {-1, -1}, memory = -1;
    struct witness_message hello = {.kind = WITNESS_HELLO};
    w->fd = -1;
    int n = snprintf(hello.text, sizeof hello.text, "%s%c%s", process, '\0', conf->redis_url);
    errno = ENAMETOOLONG;
    bool good = n > 0 && (size_t)n < sizeof hello.text && prepare(w, pair, &memory);
    if (good)
        tell(w, &hello, (size_t)n + 1, memory);
    else
        log_error(
            "s2s",
            "no witness could be started (%m): should this process die, stanzas that are under way then come "
            "twice");
    if (memory >= 0)
        close(memory);
    if (pair[1] >= 0)
        close(pair[1]);
    if (good)
        return w;
    witness_end(w, false);
    return NULL;
}

struct ledger *witness_ledger(struct witness *w)
{
    return w != NULL && w->fd >= 0 ? w->ledger : NULL;
}

void witness_add(struct witness *w, uint64_t sid, int fd, bool dialled)
{
    struct witness_message m = {.kind = WITNESS_ADD, .dialled = dialled, .sid = sid};
    tell(w, &m, 0, fd);
}

void witness_domain(struct witness *w, uint64_t sid, struct span domain)
{
    struct witness_message m = {.kind = WITNESS_DOMAIN, .sid = sid};
    if (domain.n >= sizeof m.text)
        return;
    memcpy(m.text, domain.p, domain.n);
    tell(w, &m, domain.n, -1);
}

void witness_drop(struct witness *w, uint64_t sid)
{
    struct witness_message m = {.kind = WITNESS_DROP, .sid = sid};
    tell(w, &m, 0, -1);
}

void witness_end(struct witness *w, bool clean)
{
    if (w == NULL)
        return;
    struct witness_message m = {.kind = WITNESS_BYE};
    if (clean)
        tell(w, &m, 0, -1);
    if (w->fd >= 0)
        close(w->fd);
    if (w->ledger != NULL)
        munmap(w->ledger, sizeof *w->ledger);
    free(w);
}

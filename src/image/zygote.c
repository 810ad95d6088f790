/* The zygote: a small process, forked before MPI starts, that forks decode workers.
 *
 * MPI libraries do not survive fork() well once they run, so the rank cannot make workers
 * itself. The zygote does nothing but that: it keeps one worker ready, and on request kills and
 * reaps it, says how it ended, and forks the next. It touches no file and no picture. It ends,
 * with its worker, when the control socket closes or the rank dies. */
#include "helper_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CONTROL_FD = 3 };

struct worker {
    pid_t pid;  /* 0: none */
    int status; /* how the last one ended */
};

void helper_reset_signals(void)
{
    static const int ignored[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1,
                                  SIGUSR2, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU};
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        sigaction(s, &action, NULL); /* fails for SIGKILL and SIGSTOP, rightly */
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        sigaction(ignored[i], &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void helper_die_with(pid_t parent)
{
    /* The parent may have died between fork and prctl, hence the second look. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(0);
}

void helper_set_limit(int what, size_t value)
{
    struct rlimit limit = {.rlim_cur = value, .rlim_max = value}, old;

    if (getrlimit(what, &old) == 0 && old.rlim_max < value)
        limit.rlim_cur = limit.rlim_max = old.rlim_max;
    setrlimit(what, &limit);
}

/* Everything but stderr and the control socket, which becomes CONTROL_FD. Standard input and
 * output become /dev/null, so that no reader of our output waits for this process. */
static void keep_only(int control_fd)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC), at;
    struct dirent *entry;
    DIR *fds;

    if (control_fd != CONTROL_FD)
        dup2(control_fd, CONTROL_FD);
    if (null_fd >= 0) {
        dup2(null_fd, STDIN_FILENO);
        dup2(null_fd, STDOUT_FILENO);
    }
    fds = opendir("/proc/self/fd");
    if (!fds)
        return;
    at = dirfd(fds);
    while ((entry = readdir(fds)) != NULL) {
        int fd = atoi(entry->d_name); /* "." and ".." give 0, which stays */
        if (fd > CONTROL_FD && fd != at)
            close(fd);
    }
    closedir(fds);
}

static void end_worker(struct worker *w)
{
    w->status = 0;
    if (w->pid == 0)
        return;
    kill(w->pid,
         SIGKILL); /* no harm when it has ended: it is ours to reap, the id is still its own */
    while (waitpid(w->pid, &w->status, 0) < 0 && errno == EINTR)
        continue;
    w->pid = 0;
}

/* Returns the rank's end of the new worker's socket, or -1 and errno. */
static int fork_worker(struct worker *w, enum helper_kind kind, const struct image_limits *limits)
{
    pid_t self = getpid(), pid;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        close(CONTROL_FD);
        close(pair[0]);
        if (kind == HELPER_VIDEO)
            video_worker_main(pair[1], limits, self);
        worker_main(pair[1], limits, self);
    }
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return -1;
    }
    w->pid = pid;
    return pair[0];
}

_Noreturn void zygote_main(int control_fd, const struct image_limits *limits, pid_t parent)
{
    struct worker worker = {0};
    char command;

    helper_die_with(parent);
    helper_reset_signals();
    prctl(PR_SET_NAME, "paligrid-zygote");
    keep_only(control_fd);
    while (helper_receive(CONTROL_FD, &command, sizeof command, NULL) == 1) {
        struct helper_swap swap = {0};
        int fd;
        end_worker(&worker);
        fd = fork_worker(&worker, (enum helper_kind)command, limits);
        swap.error = fd < 0 ? errno : 0;
        swap.pid = worker.pid;
        swap.old_status = worker.status;
        if (helper_send(CONTROL_FD, &swap, sizeof swap, fd) != 0)
            break;
        if (fd >= 0)
            close(fd);
    }
    end_worker(&worker);
    _exit(0);
}

/* A program of the system on hostile bytes: fork, limits, exec; its output through pipes.
 *
 * Limits: address space, processor time, no file may be written (size 0), no core, no new
 * privileges, few descriptors; wall time is the rank's business, who kills this process, and the
 * program dies with it. Of stderr the first line is kept, for the message. */
#include "video_program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper_impl.h"
#include "status.h"

enum { BLOCK_BYTES = 1 << 16, COMPLAINT_BYTES = 160, MAX_DESCRIPTORS = 64, NOT_THERE = 127 };

struct running {
    pid_t pid;
    int out_fd, complaint_fd;
    char complaint[COMPLAINT_BYTES];
    size_t n_complaint;
};

_Noreturn static void become_program(const struct video_program *p, int out_fd, int complaint_fd,
                                     pid_t parent)
{
    int null_fd = open("/dev/null", O_RDONLY);
    char *const *argument = (char *const *)(uintptr_t)p->argument; /* exec's type; it only reads */

    helper_die_with(parent);
    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    dup2(null_fd, STDIN_FILENO);
    dup2(out_fd, STDOUT_FILENO);
    dup2(complaint_fd, STDERR_FILENO);
    for (int fd = STDERR_FILENO + 1; fd < MAX_DESCRIPTORS; fd++)
        close(fd);
    helper_set_limit(RLIMIT_AS, p->limits->max_memory_bytes);
    helper_set_limit(RLIMIT_CPU, (size_t)p->limits->max_video_seconds);
    helper_set_limit(RLIMIT_FSIZE, 0);
    helper_set_limit(RLIMIT_CORE, 0);
    helper_set_limit(RLIMIT_NOFILE, MAX_DESCRIPTORS);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    execvp(argument[0], argument);
    _exit(NOT_THERE);
}

static int start(struct running *r, const struct video_program *p)
{
    pid_t self = getpid();
    int out[2], complaint[2];

    if (pipe(out) != 0)
        return ERR_NOMEM;
    if (pipe(complaint) != 0) {
        close(out[0]);
        close(out[1]);
        return ERR_NOMEM;
    }
    r->pid = fork();
    if (r->pid == 0)
        become_program(p, out[1], complaint[1], self);
    close(out[1]);
    close(complaint[1]);
    r->out_fd = out[0];
    r->complaint_fd = complaint[0];
    return r->pid > 0 ? OK : ERR_NOMEM;
}

/* Keeps the first bytes of stderr. Returns 0 at its end. */
static int read_complaint(struct running *r)
{
    char block[512];
    ssize_t n = read(r->complaint_fd, block, sizeof block);
    size_t room = sizeof r->complaint - 1 - r->n_complaint;

    if (n <= 0)
        return n < 0 && errno == EINTR;
    memcpy(r->complaint + r->n_complaint, block, (size_t)n < room ? (size_t)n : room);
    r->n_complaint += (size_t)n < room ? (size_t)n : room;
    return 1;
}

/* Hands stdout on until both pipes end. */
static int pump(struct running *r, const struct video_program *p, uint8_t *block, char *why)
{
    struct pollfd fd[2] = {{.fd = r->out_fd, .events = POLLIN},
                           {.fd = r->complaint_fd, .events = POLLIN}};

    while (fd[0].fd >= 0 || fd[1].fd >= 0) {
        ssize_t n;
        if (poll(fd, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return ERR_NOMEM;
        }
        if (fd[1].revents && !read_complaint(r))
            fd[1].fd = -1;
        if (!fd[0].revents)
            continue;
        n = read(r->out_fd, block, BLOCK_BYTES);
        if (n > 0)
            TRY(p->take(p->context, block, (size_t)n, why));
        else if (n == 0 || errno != EINTR)
            fd[0].fd = -1;
    }
    return OK;
}

/* One printable line. */
static void tidy(char *text)
{
    text[strcspn(text, "\n")] = '\0';
    for (char *c = text; *c; c++) {
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    }
}

static int judge(struct running *r, const char *name, int status, char *why)
{
    r->complaint[r->n_complaint] = '\0';
    tidy(r->complaint);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return OK;
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_THERE)
        snprintf(why, IMAGE_WHY_BYTES,
                 "reading videos needs the programs ffprobe and ffmpeg; %s cannot be run "
                 "(directories of frames need neither)",
                 name);
    else if (WIFSIGNALED(status))
        snprintf(why, IMAGE_WHY_BYTES, "%s was ended by signal %d%s", name, WTERMSIG(status),
                 WTERMSIG(status) == SIGXCPU ? ": too much processor time" : "");
    else
        snprintf(why, IMAGE_WHY_BYTES, "%s: %s", name,
                 r->complaint[0] ? r->complaint : "failed without a word");
    return ERR_INPUT;
}

int video_program_run(const struct video_program *p, char why[IMAGE_WHY_BYTES])
{
    struct running r = {0};
    uint8_t *block = malloc(BLOCK_BYTES);
    int status = 0, rc;

    snprintf(why, IMAGE_WHY_BYTES, "no memory to run %s", p->argument[0]);
    if (!block)
        return ERR_NOMEM;
    rc = start(&r, p);
    if (rc == OK)
        rc = pump(&r, p, block, why);
    if (r.pid > 0) {
        if (rc != OK)
            kill(r.pid, SIGKILL);
        while (waitpid(r.pid, &status, 0) < 0 && errno == EINTR)
            continue;
        close(r.out_fd);
        close(r.complaint_fd);
        if (rc == OK)
            rc = judge(&r, p->argument[0], status, why);
    }
    free(block);
    return rc;
}

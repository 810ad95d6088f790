/* Messages with descriptors over the helper's sockets. */
#include "helper_impl.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* Room for one descriptor, aligned as the kernel wants it. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int helper_send(int socket_fd, const void *message, size_t n_bytes, int fd)
{
    union control control = {0};
    struct iovec io = {.iov_base = (void *)(uintptr_t)message, .iov_len = n_bytes};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        struct cmsghdr *c;
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof control.bytes;
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    do
        n = sendmsg(socket_fd, &m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)n_bytes ? 0 : -1;
}

/* The descriptor in m, or -1. There is room for one, so the kernel drops any other. */
static int descriptor_of(struct msghdr *m)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    int fd = -1;

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(c), sizeof fd);
    return fd;
}

int helper_receive(int socket_fd, void *message, size_t n_bytes, int *fd)
{
    union control control = {0};
    struct iovec io = {.iov_base = message, .iov_len = n_bytes};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = fd ? control.bytes : NULL,
                       .msg_controllen = fd ? sizeof control.bytes : 0};
    int got_fd = -1;
    ssize_t n;

    do
        n = recvmsg(socket_fd, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;
    if (fd)
        got_fd = descriptor_of(&m);
    if ((size_t)n == n_bytes && !(m.msg_flags & MSG_TRUNC)) {
        if (fd)
            *fd = got_fd;
        return 1;
    }
    if (got_fd >= 0)
        close(got_fd);
    errno = EPROTO;
    return n == 0 ? 0 : -1;
}

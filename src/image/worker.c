/* The worker: decodes one picture inside limits, and ends.
 *
 * It is forked by the zygote, so it knows nothing of MPI. It has no file to open: the bytes come
 * in a memfd and the pixels go back in the same one. Limits: address space, processor time, no
 * core, no new process, no new privileges, a handful of descriptors, the system-call filter; and
 * it is the first that the kernel kills when memory runs out. What still goes wrong in here,
 * crashes included, is for the rank one unreadable picture. */
#include "helper_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "decode_impl.h"
#include "sandbox.h"
#include "status.h"

enum { MAX_DESCRIPTORS = 8 };

/* Pages mapped at start (libraries; under AddressSanitizer terabytes of shadow) are not the
 * picture's doing, so the limit counts from there. */
static size_t mapped_bytes(void)
{
    unsigned long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");

    if (!f)
        return 0;
    if (fscanf(f, "%llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void volunteer_for_oom_kill(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    dprintf(fd, "1000");
    close(fd);
}

static int enter_limits(const struct image_limits *limits)
{
    size_t base_bytes = mapped_bytes();

    volunteer_for_oom_kill();
    helper_set_limit(RLIMIT_AS, base_bytes + limits->max_memory_bytes);
    helper_set_limit(RLIMIT_CPU, (size_t)limits->max_seconds + 1);
    helper_set_limit(RLIMIT_CORE, 0);
    helper_set_limit(RLIMIT_NPROC, 0);
    helper_set_limit(RLIMIT_NOFILE, MAX_DESCRIPTORS);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return sandbox_enter();
}

/* Decodes and resizes into the mapping; fills the reply. */
static void serve(const struct helper_request *q, uint8_t *mapping,
                  const struct image_limits *limits, struct helper_reply *reply)
{
    struct image img = {0};

    reply->rc =
        image_decode(mapping, q->n_file_bytes, limits, (enum image_exif)q->exif, &img, reply->why);
    if (reply->rc != OK)
        return;
    reply->width_px = img.width_px;
    reply->height_px = img.height_px;
    memcpy(reply->format, img.format, sizeof reply->format);
    reply->rc = image_resize_bicubic(img.rgb, img.width_px, img.height_px, q->out_px,
                                     (enum image_pass_order)q->passes, mapping + q->result_at);
    if (reply->rc != OK)
        snprintf(reply->why, sizeof reply->why, "resizing it needs more memory than allowed");
    image_release(&img);
}

_Noreturn void worker_main(int request_fd, const struct image_limits *limits, pid_t parent)
{
    struct helper_reply reply = {.magic = HELPER_MAGIC};
    struct helper_request q;
    int memory_fd = -1;
    size_t n_bytes;
    void *mapping;

    helper_die_with(parent);
    prctl(PR_SET_NAME, "paligrid-worker");
    reply.filtered = enter_limits(limits);
    if (helper_receive(request_fd, &q, sizeof q, &memory_fd) != 1 || memory_fd < 0 ||
        q.magic != HELPER_MAGIC)
        _exit(0);
    n_bytes = q.result_at + 3 * (size_t)q.out_px * (size_t)q.out_px;
    mapping = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    if (mapping == MAP_FAILED) {
        reply.rc = ERR_NOMEM;
        snprintf(reply.why, sizeof reply.why, "the file needs more memory than allowed");
    } else {
        serve(&q, mapping, limits, &reply);
    }
    helper_send(request_fd, &reply, sizeof reply, -1);
    _exit(0);
}

// RANKS: 1
/* cost_machine_read on any bytes: no crash, and what it accepts has rates that a plan can divide by,
 * and exchanges in ascending order of ranks. */
#define _GNU_SOURCE /* memfd_create */
#include "plan.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void check(const struct cost_machine *m)
{
    if (!(m->flops > 0 && m->step_flops > 0 && m->elements > 0 && m->read > 0) || m->units < 1)
        abort();
    for (int i = 0; i < m->n_node; i++) {
        if (m->node[i].ranks < 2 || !(m->node[i].bytes_s > 0) ||
            (i > 0 && m->node[i].ranks <= m->node[i - 1].ranks))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const int fd = memfd_create("machine", 0);
    struct cost_machine m;
    char path[64];

    if (fd < 0 || write(fd, data, n_bytes) != (ssize_t)n_bytes)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (cost_machine_default(&m, "cpu") == OK && cost_machine_read(&m, path) == OK)
        check(&m);
    close(fd);
    return 0;
}

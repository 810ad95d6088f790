/* A build without NCCL's header: GPUs exchange through host memory. */
#include "comm_device.h"

#include "status.h"

int comm_device_create(struct comm_device **out, struct comm *c, void *stream, double timeout_s)
{
    (void)out, (void)c, (void)stream, (void)timeout_s;
    log_root(LOG_WARN, "comm", "this paligrid was built without NCCL");
    return ERR_UNSUPPORTED;
}

void comm_device_destroy(struct comm_device *n)
{
    (void)n;
}

int comm_device_allreduce_sum(struct comm_device *n, void *buf, size_t n_elems, enum dtype t)
{
    (void)n, (void)buf, (void)n_elems, (void)t;
    return FAIL(ERR_INTERNAL, "a sum over GPUs without NCCL");
}

int comm_device_allreduce_max(struct comm_device *n, void *buf, size_t n_elems, enum dtype t)
{
    (void)n, (void)buf, (void)n_elems, (void)t;
    return FAIL(ERR_INTERNAL, "a maximum over GPUs without NCCL");
}

int comm_device_allgather(struct comm_device *n, const void *in, void *out, size_t n_bytes)
{
    (void)n, (void)in, (void)out, (void)n_bytes;
    return FAIL(ERR_INTERNAL, "a gather over GPUs without NCCL");
}

bool comm_device_records(const struct comm_device *n)
{
    (void)n;
    return false;
}

int comm_device_wait(struct comm_device *n)
{
    (void)n;
    return FAIL(ERR_INTERNAL, "a wait for GPUs without NCCL");
}

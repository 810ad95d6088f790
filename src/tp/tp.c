/* Row-parallel products: partial sums as integers, one all-reduce, one rounding.
 *
 * Through host memory, the number of chunks that left the fixed-point range travels as one more
 * element of the same all-reduce. All ranks therefore learn of it in the same call and fail
 * together, with no extra message and no rank left waiting. Sums that stay on the device are
 * counted there and told of once a pass (tp_range.c). */
#include "tp.h"

#include <stdlib.h>
#include <string.h>

#include "ops_cuda.h"
#include "sizes.h"
#include "status.h"
#include "tp_impl.h"

/* The counter, and a row of logits when these have to be copied to the host. */
static int buffer_elems(size_t *out, const struct tp_plan *plan, size_t max_row_elems)
{
    const size_t n_logits = (plan->n_vocab * sizeof(float) + sizeof(int64_t) - 1) / sizeof(int64_t);

    TRY(size_add(out, max_row_elems, 1, "exact sums"));
    if (*out < n_logits)
        *out = n_logits;
    return OK;
}

int tp_create(struct tp **out, struct device *d, struct comm *c, const struct tp_plan *plan,
              size_t max_row_elems)
{
    struct tp *t = calloc(1, sizeof *t);
    void *acc = NULL, *report = NULL;
    size_t n_bytes;
    int rc;

    if (!t)
        return FAIL(ERR_NOMEM, "tensor parallel group");
    *t = (struct tp){.device = d, .comm = c, .plan = plan, .max_row_elems = max_row_elems};
    ASSERT(comm_size(c) == plan->n_ranks && comm_rank(c) == plan->rank);
    TRY_GOTO(buffer_elems(&n_bytes, plan, max_row_elems), destroy_t);
    TRY_GOTO(size_mul(&n_bytes, n_bytes, sizeof *t->acc, "exact sums"), destroy_t);
    TRY_GOTO(ops_alloc(d, n_bytes, &acc), destroy_t);
    t->acc = acc;
    TRY_GOTO(ops_alloc(d, sizeof *t->report, &report), destroy_t);
    t->report = report;
    t->stage = ops_is_host(d) ? acc : malloc(n_bytes);
    t->best = calloc(((size_t)plan->n_ranks + 1) * TP_MAX_BEST, sizeof *t->best);
    t->n_bytes = calloc((size_t)plan->n_ranks, sizeof *t->n_bytes);
    t->n_taken = calloc((size_t)plan->n_ranks, sizeof *t->n_taken);
    if (!t->stage || !t->best || !t->n_bytes || !t->n_taken) {
        rc = FAIL(ERR_NOMEM, "%zu bytes of exchange buffers", n_bytes);
        goto destroy_t;
    }
    *out = t;
    return OK;
destroy_t:
    tp_destroy(t);
    return rc;
}

void tp_destroy(struct tp *t)
{
    if (!t)
        return;
    comm_device_destroy(t->direct);
    free(t->n_taken);
    free(t->n_bytes);
    free(t->best);
    if (t->stage != t->acc)
        free(t->stage);
    ops_free(t->device, t->report);
    ops_free(t->device, t->acc);
    free(t);
}

/* Whether every rank has a GPU of its own. */
static int gpus_differ(struct tp *t, bool *out)
{
    const size_t n_ranks = (size_t)t->plan->n_ranks;
    uint8_t mine[OPS_CUDA_ID_BYTES + 1], *all = malloc(n_ranks * sizeof mine);
    bool differ = true;
    int rc;

    mine[OPS_CUDA_ID_BYTES] = ops_cuda_id(t->device, mine);
    TRY_GOTO(comm_agree(t->comm, all ? OK : FAIL(ERR_NOMEM, "a list of GPUs")), free_all);
    TRY_GOTO(comm_allgather(t->comm, mine, all, sizeof mine), free_all);
    for (size_t i = 0; i < n_ranks; i++) {
        differ = differ && all[(i + 1) * sizeof mine - 1];
        for (size_t j = 0; j < i; j++)
            differ = differ && memcmp(all + i * sizeof mine, all + j * sizeof mine, sizeof mine);
    }
    *out = differ;
free_all:
    free(all);
    return rc;
}

int tp_connect(struct tp *t)
{
    bool differ = false;
    int rc;

    if (t->plan->n_ranks == 1)
        return OK;
    if (ops_is_host(t->device))
        return tp_overlap_open(t);
    TRY(gpus_differ(t, &differ));
    rc = differ ? comm_device_create(&t->direct, t->comm, ops_cuda_stream(t->device),
                                     ops_cuda_timeout_s(t->device))
                : OK;
    if ((rc == OK || rc == ERR_UNSUPPORTED) && !tp_can_replay(t) && ops_can_replay(t->device))
        log_root(LOG_INFO, "tp", "decoding steps run kernel by kernel: %s",
                 t->direct ? "this NCCL does not let its sums be recorded"
                           : "sums pass through host memory");
    return rc == ERR_UNSUPPORTED ? OK : rc;
}

/* Of acc and of stage. */
static size_t acc_bytes(const struct tp_plan *plan, size_t max_row_elems)
{
    size_t n = 0;

    ASSERT(buffer_elems(&n, plan, max_row_elems) == OK);
    return n * sizeof(int64_t);
}

size_t tp_buffer_bytes_for(const struct tp_plan *plan, size_t max_row_elems)
{
    return acc_bytes(plan, max_row_elems) +
           comm_sums_bytes(tp_room_elems(plan, max_row_elems) * sizeof(int64_t));
}

size_t tp_buffer_bytes(const struct tp *t)
{
    return tp_buffer_bytes_for(t->plan, t->max_row_elems);
}

const struct tp_plan *tp_plan_of(const struct tp *t)
{
    return t->plan;
}

struct device *tp_device(const struct tp *t)
{
    return t->device;
}

struct comm *tp_comm(const struct tp *t)
{
    return t->comm;
}

void tp_at(struct tp *t, const char *layer, int number)
{
    t->layer = layer;
    t->layer_number = number;
    comm_note_place(t->comm, layer, number);
}

int tp_stage(struct tp *t, void *dev, size_t n_bytes, void **host)
{
    const bool is_host = ops_is_host(t->device);

    *host = is_host ? dev : t->stage;
    if (!is_host)
        TRY(ops_download(t->device, *host, dev, n_bytes));
    return ops_sync(t->device);
}

int tp_unstage(struct tp *t, void *dev, size_t n_bytes)
{
    return ops_is_host(t->device) ? OK : ops_upload(t->device, dev, t->stage, n_bytes);
}

/* acc [n] and the counter behind it, summed over ranks by way of host memory. */
static int sum_ranks(struct tp *t, size_t n, int64_t *n_bad_here, int64_t *n_bad)
{
    const size_t n_bytes = (n + 1) * sizeof(int64_t);
    int64_t *sums;
    void *host;

    TRY(tp_stage(t, t->acc, n_bytes, &host));
    sums = host;
    *n_bad_here = sums[n];
    TRY(comm_allreduce_sum(t->comm, sums, n + 1, DTYPE_I64));
    *n_bad = sums[n];
    return *n_bad == 0 ? tp_unstage(t, t->acc, n_bytes) : OK;
}

int tp_row_linear(struct tp *t, float *y, const float *x_local, const struct tensor *w_local,
                  size_t chunk_elems, size_t n_chunks_global, const struct tensor *bias,
                  const float *residual, size_t n_tok, const char *what)
{
    const struct tp_place here = {t->layer, what, t->layer_number, n_chunks_global};
    const size_t n_out = w_local->dim[0], n = n_tok * n_out;
    const bool is_deferred = tp_defers(t);
    const struct tp_product product = {y,        x_local,     w_local, bias,
                                       residual, chunk_elems, n_tok,   here};
    const int64_t zero = 0;
    int64_t n_bad_here = 0, n_bad = 0, *counter = t->acc + n;

    ASSERT(n <= t->max_row_elems);
    if (tp_overlaps(t, n_tok, n_out))
        return tp_overlapped(t, &product);
    if (is_deferred)
        counter = t->report->n_bad_here + tp_place(t, &here);
    else
        TRY(ops_upload(t->device, counter, &zero, sizeof zero));
    TRY(ops_linear_fixed(t->device, t->acc, counter, x_local, w_local, chunk_elems, n_chunks_global,
                         n_tok));
    if (!is_deferred)
        TRY(sum_ranks(t, n, &n_bad_here, &n_bad));
    else if (t->direct)
        TRY(comm_device_allreduce_sum(t->direct, t->acc, n, DTYPE_I64));
    if (n_bad != 0)
        return tp_fail_range(&here, n_bad, n_bad_here);
    return ops_fixed_finish(t->device, y, t->acc, bias, residual, n_tok, n_out);
}

/* Pieces of all ranks stand side by side in the buffer of the exact sums. */
int tp_share(struct tp *t, float *const *rows, size_t n_elems)
{
    const size_t n_ranks = (size_t)t->plan->n_ranks, rank = (size_t)t->plan->rank;
    const size_t piece_elems =
        acc_bytes(t->plan, t->max_row_elems) / n_ranks / sizeof(float);

    for (size_t at = 0; at < n_elems; at += piece_elems) {
        const size_t n = n_elems - at < piece_elems ? n_elems - at : piece_elems;
        float *pieces = t->stage;

        if (rows[rank])
            TRY(ops_download(t->device, pieces + rank * n, rows[rank] + at, n * sizeof(float)));
        TRY(ops_sync(t->device));
        TRY(comm_allgather(t->comm, pieces + rank * n, pieces, n * sizeof(float)));
        for (size_t r = 0; r < n_ranks; r++)
            if (r != rank && rows[r])
                TRY(ops_upload(t->device, rows[r] + at, pieces + r * n, n * sizeof(float)));
        TRY(ops_sync(t->device)); /* the pieces are written again at once */
    }
    return OK;
}

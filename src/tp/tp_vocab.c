/* The split vocabulary: embedding rows in, choices out.
 *
 * Nothing here rounds: an embedding row exists on one rank and travels as bit patterns added to
 * zeros, the best candidates are compared, and the softmax normaliser is an integer sum. */
#include "tp.h"

#include <math.h>
#include <string.h>

#include "ops_step.h"
#include "status.h"
#include "tp_impl.h"

int tp_embed(struct tp *t, float *x, const int32_t *ids, const struct tensor *table_local,
             float scale, size_t n_tok)
{
    const struct tp_range rows = t->plan->vocab;
    const size_t n_cols = table_local->dim[1], max_tok = t->max_row_elems / (n_cols ? n_cols : 1);

    ASSERT(table_local->dim[0] == tp_range_len(rows));
    ASSERT(n_tok == 0 || max_tok > 0);
    TRY(ops_embed(t->device, x, ids, table_local, (int32_t)rows.begin, scale, n_tok));
    if (t->plan->n_ranks == 1)
        return OK;
    if (t->direct)
        return comm_device_allreduce_sum(t->direct, x, n_tok * n_cols, DTYPE_I32);
    for (size_t i = 0; i < n_tok; i += max_tok) {
        const size_t n = (n_tok - i < max_tok ? n_tok - i : max_tok) * n_cols;
        void *host;

        TRY(tp_stage(t, x + i * n_cols, n * sizeof *x, &host));
        TRY(comm_allreduce_sum(t->comm, host, n, DTYPE_I32));
        TRY(tp_unstage(t, x + i * n_cols, n * sizeof *x));
    }
    return OK;
}

/* NaN first, then larger values, then lower ids. */
static bool is_better(const struct tp_candidate *a, const struct tp_candidate *b)
{
    if (isnan(a->value) != isnan(b->value))
        return isnan(a->value);
    if (a->value > b->value || a->value < b->value)
        return a->value > b->value;
    return a->id < b->id;
}

/* The best not yet taken of every rank's list, n_best times; lists are sorted and padded with ids
 * beyond the vocabulary. Rank r's list of this row is at r * stride. */
static void merge(struct tp *t, const struct tp_candidate *lists, size_t stride, size_t n_best,
                  float *value, int32_t *id)
{
    const size_t n_ranks = (size_t)t->plan->n_ranks;

    memset(t->n_taken, 0, n_ranks * sizeof *t->n_taken);
    for (size_t i = 0; i < n_best; i++) {
        const struct tp_candidate *best = NULL;
        size_t from = 0;

        for (size_t r = 0; r < n_ranks; r++) {
            const struct tp_candidate *c = &lists[r * stride + t->n_taken[r]];

            if (t->n_taken[r] < n_best && (!best || is_better(c, best))) {
                best = c;
                from = r;
            }
        }
        t->n_taken[from]++;
        value[i] = best->value;
        id[i] = best->id;
    }
}

/* So many rows that their candidates fit the buffer. */
static int topn_rows(struct tp *t, const float *logits, size_t n_rows, size_t n_best, float *value,
                     int32_t *id)
{
    const struct tp_range rows = t->plan->vocab;
    const size_t n_local = tp_range_len(rows), n_mine = n_best < n_local ? n_best : n_local;
    const size_t n = n_rows * n_best;
    struct tp_candidate *mine = t->best + (size_t)t->plan->n_ranks * TP_MAX_BEST;

    TRY(ops_topn(t->device, logits, n_rows, n_local, (int32_t)rows.begin, n_mine, value, id));
    for (size_t i = 0; i < n; i++) {
        const size_t from = i / n_best * n_mine + i % n_best;

        mine[i] = i % n_best < n_mine ? (struct tp_candidate){value[from], id[from]}
                                      : (struct tp_candidate){-INFINITY, INT32_MAX};
    }
    TRY(comm_allgather(t->comm, mine, t->best, n * sizeof *mine));
    for (size_t r = 0; r < n; r += n_best)
        merge(t, t->best + r, n, n_best, value + r, id + r);
    return OK;
}

int tp_topn(struct tp *t, const float *logits_local, size_t n_rows, size_t n_best, float *value,
            int32_t *id)
{
    const struct tp_range vocab = t->plan->vocab;
    size_t at_once;

    ASSERT(n_best > 0 && n_best <= TP_MAX_BEST && n_best <= t->plan->n_vocab);
    at_once = TP_MAX_BEST / n_best;
    for (size_t r = 0; r < n_rows; r += at_once)
        TRY(topn_rows(t, logits_local + r * tp_range_len(vocab),
                      n_rows - r < at_once ? n_rows - r : at_once, n_best, value + r * n_best,
                      id + r * n_best));
    return OK;
}

static double log_of(float max, int64_t sum)
{
    return (double)max + log(ldexp((double)sum, -OPS_EXP_BITS));
}

int tp_log_sum_exp(struct tp *t, const float *logits_local, size_t n_rows, const float *max,
                   double *out)
{
    const size_t n_local = tp_range_len(t->plan->vocab);

    ASSERT(n_rows <= OPS_MAX_ROWS);
    memset(t->sum, 0, n_rows * sizeof *t->sum);
    TRY(ops_sum_exp_fixed(t->device, logits_local, n_rows, n_local, max, t->sum));
    TRY(comm_allreduce_sum(t->comm, t->sum, n_rows, DTYPE_I64));
    for (size_t r = 0; r < n_rows; r++)
        out[r] = log_of(max[r], t->sum[r]);
    return OK;
}

/* A row of the report, of n numbers, becomes that over ranks: by the GPUs, or through the host. */
static int over_ranks(struct tp *t, int64_t *dev, int64_t *told, size_t n, bool is_max)
{
    const bool is_host = ops_is_host(t->device);
    int64_t *host = is_host ? dev : told;

    if (t->direct && is_max)
        return comm_device_allreduce_max(t->direct, dev, n, DTYPE_I64);
    if (t->direct)
        return comm_device_allreduce_sum(t->direct, dev, n, DTYPE_I64);
    if (tp_defers(t))
        return OK;
    if (!is_host)
        TRY(ops_download(t->device, host, dev, n * sizeof *dev));
    TRY(ops_sync(t->device));
    TRY(is_max ? comm_allreduce_max(t->comm, host, n, DTYPE_I64)
               : comm_allreduce_sum(t->comm, host, n, DTYPE_I64));
    return is_host ? OK : ops_upload(t->device, dev, host, n * sizeof *dev);
}

int tp_choose(struct tp *t, const float *logits_local, size_t n_rows)
{
    const struct tp_range vocab = t->plan->vocab;
    const size_t n_local = tp_range_len(vocab);
    struct tp_report *r = t->report;

    ASSERT(n_rows <= OPS_MAX_ROWS);
    TRY(ops_best(t->device, r->best, logits_local, n_rows, n_local, (int32_t)vocab.begin));
    TRY(over_ranks(t, r->best, t->told.best, n_rows, true));
    TRY(ops_sum_exp_best(t->device, r->sum, logits_local, n_rows, n_local, r->best));
    TRY(over_ranks(t, r->sum, t->told.sum, n_rows, false));
    return tp_count(t);
}

int tp_choose_screened(struct tp *t, const float *x, const struct ops_head *head, float *logits,
                       size_t n_rows)
{
    ASSERT(n_rows <= OPS_MAX_ROWS);
    TRY(ops_best_screened(t->device, t->report->best, x, head, logits, n_rows));
    TRY(over_ranks(t, t->report->best, t->told.best, n_rows, true));
    return tp_count(t);
}

int tp_chosen(struct tp *t, size_t n_rows, float *value, int32_t *id, double *log_sum)
{
    const struct tp_report *told = ops_is_host(t->device) ? t->report : &t->told;

    if (!ops_is_host(t->device))
        TRY(tp_look(t));
    for (size_t i = 0; i < n_rows; i++) {
        value[i] = ops_best_logit(told->best[i]);
        id[i] = ops_best_id(told->best[i]);
        if (log_sum)
            log_sum[i] = log_of(value[i], told->sum[i]);
    }
    return OK;
}

int tp_gather_logits(struct tp *t, const float *logits_local, float *out)
{
    const struct tp_plan *plan = t->plan;
    const void *mine = logits_local;

    for (int r = 0; r < plan->n_ranks; r++) {
        const struct tp_range rows = tp_vocab_range(plan->n_vocab, plan->n_ranks, r);

        t->n_bytes[r] = tp_range_len(rows) * sizeof *out;
    }
    if (!ops_is_host(t->device)) {
        TRY(ops_download(t->device, t->stage, logits_local, t->n_bytes[plan->rank]));
        mine = t->stage;
    }
    TRY(ops_sync(t->device));
    return comm_allgatherv(t->comm, mine, out, t->n_bytes);
}

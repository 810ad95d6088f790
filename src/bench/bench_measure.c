/* Rounds, and figures out of rounds; see bench.h.
 *
 * A figure is a rate: work done / time. Its ceiling is work / (operations / peak + bytes / read
 * bandwidth), with only the operations counted in vision and prefill, only the bytes in decoding.
 * The share is the median of each round's own ratio to its own probes. */
#include "bench.h"

#include "clock.h"
#include "plan.h"
#include "status.h"

/* ---- measuring ---- */

int bench_probe(const struct bench_subject *s, struct bench_probe *out)
{
    int64_t rate[2];

    /* All ranks at once, since they share the memory and may share CPUs. */
    TRY(comm_agree(s->comm, OK));
    rate[0] = (int64_t)ops_probe_read(s->device, s->probe_bytes, s->n_probe_bytes);
    TRY(comm_agree(s->comm, OK));
    rate[1] = (int64_t)ops_probe_flops(s->device);
    TRY(comm_allreduce_sum(s->comm, rate, 2, DTYPE_I64));
    *out = (struct bench_probe){.read = (double)rate[0], .flops = (double)rate[1]};
    return OK;
}

static void take(const struct bench_subject *s, struct ops_ledger *prefill,
                 struct ops_ledger *decode)
{
    if (s->has_account)
        ops_timed_take(s->device, prefill, decode);
}

/* Prefill of all sequences, then their steps; they leave without being asked for an answer. */
static int answer_all(const struct bench_subject *s, int64_t *prefill_us, int64_t *decode_us)
{
    const int64_t start = clock_us();
    struct answer a = {.tokens = s->tokens};
    int n_active = s->batch;
    int64_t first;

    for (int i = 0; i < s->batch; i++) {
        const struct engine_request r = {
            .ids = s->ids,
            .n_ids = s->n_ids,
            .slot = &s->slot[i],
            .n_images = 1,
            .generate = {.max_new_tokens = s->n_new,
                         .n_beams = 1,
                         .length_penalty = 1,
                         .sampler = {.top_p = 1}},
        };

        TRY(engine_admit(s->engine, &r, &s->seq[i]));
    }
    first = clock_us();
    for (int n = 1; n < s->n_new; n++)
        TRY(engine_advance(s->engine, &n_active));
    *decode_us = clock_us() - first;
    *prefill_us = first - start;
    ASSERT(n_active == s->batch); /* every step had all of them */
    for (int i = 0; i < s->batch; i++)
        TRY(engine_leave(s->engine, s->seq[i], &a));
    return OK;
}

int bench_round_run(const struct bench_subject *s, struct bench_round *out)
{
    struct bench_round r = {0};
    int64_t us[3] = {0}, start;
    int rc;

    TRY(bench_probe(s, &r.probe[0]));
    TRY(comm_agree(s->comm, OK));
    take(s, NULL, NULL);
    start = clock_us();
    TRY(comm_agree(s->comm, engine_encode_many(s->engine, s->pixels, s->slot, (size_t)s->batch)));
    us[0] = clock_us() - start;
    take(s, &r.vision, NULL);
    TRY(bench_probe(s, &r.probe[1]));
    TRY(comm_agree(s->comm, OK));
    take(s, NULL, NULL);
    rc = answer_all(s, &us[1], &us[2]);
    take(s, &r.prefill, &r.decode); /* before this rank waits for the others */
    TRY(comm_agree(s->comm, rc));
    TRY(bench_probe(s, &r.probe[2]));
    TRY(comm_allreduce_max(s->comm, us, 3, DTYPE_I64));
    r.vision_us = us[0];
    r.prefill_us = us[1];
    r.decode_us = us[2];
    *out = r;
    return OK;
}

/* ---- figures ---- */

/* The probes that frame a figure: of what, from which on. */
struct frame {
    bool by_flops, by_read;
    int first, n;
};

static const struct frame frame_of[BENCH_N_FIGURES] = {
    [BENCH_FIGURE_VISION] = {.by_flops = true, .first = 0, .n = 2},
    [BENCH_FIGURE_PREFILL_TEXT] = {.by_flops = true, .first = 1, .n = 2},
    [BENCH_FIGURE_PREFILL] = {.by_flops = true, .first = 0, .n = 3},
    [BENCH_FIGURE_DECODE] = {.by_read = true, .first = 1, .n = 2},
    [BENCH_FIGURE_E2E] = {.by_flops = true, .by_read = true, .first = 0, .n = 3},
};

/* Mean and spread of the frame's probes. */
static struct bench_probe probe_of(const struct bench_round *r, const struct frame *f,
                                   struct bench_probe *spread)
{
    double read[BENCH_PROBES], flops[BENCH_PROBES];
    struct bench_probe mean = {0};

    for (int i = 0; i < f->n; i++) {
        read[i] = r->probe[f->first + i].read;
        flops[i] = r->probe[f->first + i].flops;
        mean.read += read[i] / f->n;
        mean.flops += flops[i] / f->n;
    }
    spread->read = bench_spread(read, (size_t)f->n);
    spread->flops = bench_spread(flops, (size_t)f->n);
    return mean;
}

static bool is_steady(const struct frame *f, const struct bench_probe *spread)
{
    return (!f->by_flops || spread->flops <= BENCH_STEADY) &&
           (!f->by_read || spread->read <= BENCH_STEADY);
}

bool bench_round_is_steady(const struct bench_round *r)
{
    struct bench_probe spread;

    probe_of(r, &frame_of[BENCH_FIGURE_E2E], &spread);
    return is_steady(&frame_of[BENCH_FIGURE_E2E], &spread);
}

/* Units of work in a round, what they need, and the time they took. */
struct work {
    const char *phase, *unit;
    double n, flops, bytes;
};

static struct tp_plan plan_of_one_rank(const struct model_config *c)
{
    struct tp_plan p;
    const int rc = tp_plan_make(&p, c, 1, 0);

    ASSERT(rc == OK); /* one rank is always possible */
    return p;
}

/* Bytes of one decoding step with `context` tokens in the cache; norms are counted like matrices. */
static double step_bytes(const struct model_config *c, const struct tp_plan *whole,
                         const struct cost_weights *w, double context)
{
    const double norms = c->text.d_model * (4.0 * c->text.n_layers + 1);

    return cost_of_step(c, whole, w, 1, context).bytes + norms * w->text_bytes;
}

/* Of them, what a screen leaves unread: its copy has a byte for each element of the embedding. The
 * rows that are read exactly are few. */
static double unread_bytes(const struct bench_subject *s)
{
    const struct text_config *t = &engine_config(s->engine)->text;
    const struct ops_screen_counts n = engine_screen_counts(s->engine);

    return n.n_tok > n.n_full ? (s->matrix_bytes - 1) * t->d_model * t->n_vocab : 0;
}

static struct work work_of(enum bench_figure figure, const struct bench_subject *s)
{
    const struct model_config *c = engine_config(s->engine);
    const struct tp_plan whole = plan_of_one_rank(c);
    const struct cost_weights w = {.text_bytes = s->matrix_bytes};
    const struct cost_work prompt = cost_of_prompt(c, &whole, &w, (double)s->n_ids);
    const double n = s->batch, n_ids = n * (double)s->n_ids;
    const double vision = n * cost_of_image(c, &whole, &w).flops;
    const double text = n * (prompt.flops + prompt.step_flops), steps = s->n_new - 1;
    /* The cache grows by one token a step: its mean length, of all sequences together. */
    const size_t context = (size_t)s->batch * (s->n_ids + (size_t)s->n_new / 2);
    const double step = step_bytes(c, &whole, &w, (double)context) - unread_bytes(s);

    switch (figure) {
    case BENCH_FIGURE_VISION:
        return (struct work){"vision", "images/s", n, vision, 0};
    case BENCH_FIGURE_PREFILL_TEXT:
        return (struct work){"prefill_text", "tokens/s", n_ids, text, 0};
    case BENCH_FIGURE_PREFILL:
        return (struct work){"prefill", "tokens/s", n_ids, vision + text, 0};
    case BENCH_FIGURE_DECODE:
        return (struct work){"decode", "tokens/s", n * steps, 0, steps * step};
    case BENCH_FIGURE_E2E:
    case BENCH_N_FIGURES:
        break;
    }
    return (struct work){"e2e", "images/s", n, vision + text, steps * step};
}

static int64_t us_of(enum bench_figure figure, const struct bench_round *r)
{
    switch (figure) {
    case BENCH_FIGURE_VISION:
        return r->vision_us;
    case BENCH_FIGURE_PREFILL_TEXT:
        return r->prefill_us;
    case BENCH_FIGURE_PREFILL:
        return r->vision_us + r->prefill_us;
    case BENCH_FIGURE_DECODE:
        return r->decode_us;
    case BENCH_FIGURE_E2E:
    case BENCH_N_FIGURES:
        break;
    }
    return r->vision_us + r->prefill_us + r->decode_us;
}

/* Seconds that the work takes at the ceiling; 0 when there is no probe for it. */
static double floor_seconds(const struct work *w, const struct bench_probe *p)
{
    if ((w->flops > 0 && p->flops <= 0) || (w->bytes > 0 && p->read <= 0))
        return 0;
    return (w->flops > 0 ? w->flops / p->flops : 0) + (w->bytes > 0 ? w->bytes / p->read : 0);
}

/* ---- accounts ---- */

static void add_ledger(double ms[OPS_N_FAMILIES], const struct ops_ledger *l, size_t n_rounds,
                       double *sum_ms)
{
    for (int i = 0; i < OPS_N_FAMILIES; i++) {
        const double part = (double)l->us[i] / 1e3 / (double)n_rounds;

        ms[i] += part;
        *sum_ms += part;
    }
}

/* Wall time is the stop watch's of the slowest rank; what it has beyond rank 0's ledger is rest.
 * The ledger changes sides with the phase, so the first token's logits stand under decoding while
 * the stop watch has them in prefill: rest of the two alone is shifted by that, of e2e it is not. */
static void account_of(struct bench_account *out, enum bench_figure figure,
                       const struct bench_round *round, size_t n_rounds)
{
    const bool has_vision = figure != BENCH_FIGURE_PREFILL_TEXT && figure != BENCH_FIGURE_DECODE;
    const bool has_prefill = figure != BENCH_FIGURE_VISION && figure != BENCH_FIGURE_DECODE;
    const bool has_decode = figure == BENCH_FIGURE_DECODE || figure == BENCH_FIGURE_E2E;
    double sum_ms = 0;

    *out = (struct bench_account){0};
    for (size_t i = 0; i < n_rounds; i++) {
        out->wall_ms += (double)us_of(figure, &round[i]) / 1e3 / (double)n_rounds;
        if (has_vision)
            add_ledger(out->vision_ms, &round[i].vision, n_rounds, &sum_ms);
        if (has_prefill)
            add_ledger(out->text_ms, &round[i].prefill, n_rounds, &sum_ms);
        if (has_decode)
            add_ledger(out->text_ms, &round[i].decode, n_rounds, &sum_ms);
    }
    (has_prefill || has_decode ? out->text_ms : out->vision_ms)[OPS_FAMILY_REST] +=
        out->wall_ms - sum_ms;
}

/* One number of every round. */
struct series {
    double rate[BENCH_MAX_ROUNDS], ms[BENCH_MAX_ROUNDS];
    double ceiling[BENCH_MAX_ROUNDS], share[BENCH_MAX_ROUNDS];
    double read[BENCH_MAX_ROUNDS], flops[BENCH_MAX_ROUNDS];
    double read_spread[BENCH_MAX_ROUNDS], flops_spread[BENCH_MAX_ROUNDS];
    bool is_good[BENCH_MAX_ROUNDS];
};

static void fill_series(struct series *v, enum bench_figure figure, const struct work *w,
                        const struct bench_round *round, size_t n_rounds)
{
    for (size_t i = 0; i < n_rounds; i++) {
        const double us = (double)us_of(figure, &round[i]), seconds = (us > 0 ? us : 1) * 1e-6;
        struct bench_probe spread;
        const struct bench_probe p = probe_of(&round[i], &frame_of[figure], &spread);
        const double least = floor_seconds(w, &p);

        v->rate[i] = w->n / seconds;
        v->ms[i] = 1e3 * seconds / w->n;
        v->ceiling[i] = least > 0 ? w->n / least : 0;
        v->share[i] = least / seconds;
        v->read[i] = p.read / 1e9;
        v->flops[i] = p.flops / 1e9;
        v->read_spread[i] = spread.read;
        v->flops_spread[i] = spread.flops;
        v->is_good[i] = is_steady(&frame_of[figure], &spread);
    }
}

static double middle(const double *v, const struct series *s, size_t n)
{
    double scratch[BENCH_MAX_ROUNDS];
    struct bench_summary summary;

    bench_summarise(&summary, v, s->is_good, n, scratch);
    return summary.median;
}

void bench_figure(struct bench_row *row, struct bench_account *account, enum bench_figure figure,
                  const struct bench_subject *s, const struct bench_round *round, size_t n_rounds)
{
    const struct work w = work_of(figure, s);
    double scratch[BENCH_MAX_ROUNDS];
    struct series v;

    ASSERT(n_rounds > 0 && n_rounds <= BENCH_MAX_ROUNDS);
    fill_series(&v, figure, &w, round, n_rounds);
    row->phase = w.phase;
    row->unit = w.unit;
    bench_summarise(&row->rate, v.rate, v.is_good, n_rounds, scratch);
    bench_summarise(&row->ms, v.ms, v.is_good, n_rounds, scratch);
    row->ceiling = middle(v.ceiling, &v, n_rounds);
    row->share = middle(v.share, &v, n_rounds);
    row->read_gb_s = middle(v.read, &v, n_rounds);
    row->gflop_s = middle(v.flops, &v, n_rounds);
    row->read_spread = middle(v.read_spread, &v, n_rounds);
    row->flops_spread = middle(v.flops_spread, &v, n_rounds);
    row->flops = w.flops;
    row->bytes = w.bytes;
    account_of(account, figure, round, n_rounds);
    row->account = s->has_account ? account : NULL;
}

/* paligrid bench: how fast, and how near to what this machine could do.
 *
 * Comma lists multiply. For each model, form of the weights, greedy choice and thread count the engine is made
 * once (loading: as often as asked). For each batch it is warmed up by one round that is not
 * counted, and then runs rounds until enough of them were steady, at most twice as many. All phases
 * but load and comm come out of the same rounds, so their ratios are those of one machine state.
 *
 * Paced, somebody else decides when a round is due: a line of standard input is a batch, and its
 * rows follow at once, so that rounds of several programs can take turns (scripts/bench). */
#include "commands.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "bench_axes.h"
#include "clock.h"
#include "machine.h"
#include "session.h"
#include "status.h"
#include "weights.h"

/* Probes read from memory this size: more than the caches of most nodes hold. */
enum { PROBE_MIN_BYTES = 256 << 20, PROBE_MAX_BYTES = 1 << 30 };
/* Rows of the decoder that are summed over ranks at once during prefill (decoder.c). */
enum { COMM_TILE_TOKENS = 256 };
/* Phases that come out of rounds. */
enum { PASSES = BENCH_VISION | BENCH_PREFILL | BENCH_DECODE | BENCH_E2E };

struct bench {
    const struct options *options;
    struct comm *comm;
    struct bench_axes axes;
    struct model_config cfg;
    struct weights *weights; /* of the model at hand */
    struct machine machine;
    struct device *timed; /* in front of the machine's device; NULL without --account */
    struct engine *engine;
    enum engine_greedy greedy; /* of the case at hand */
    void *probe_bytes;         /* device memory */
    float *pixels;
    const float *image[OPS_MAX_ROWS]; /* the same pixels for every sequence of a batch */
    int slot[OPS_MAX_ROWS], seq[OPS_MAX_ROWS];
    int32_t *ids, *tokens;
    struct bench_round *round; /* [BENCH_MAX_ROUNDS] */
    struct bench_row row;      /* what all rows of a case share */
    struct bench_subject subject;
};

/* ---- one case ---- */

static struct device *device_of(const struct bench *b)
{
    return b->timed ? b->timed : b->machine.device;
}

static size_t probe_bytes(const struct bench *b)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t n = cache > 0 ? 2 * (size_t)cache : 0;

    n = n < PROBE_MIN_BYTES ? PROBE_MIN_BYTES : n;
    n = n > PROBE_MAX_BYTES ? PROBE_MAX_BYTES : n;
    return n / (size_t)comm_size(b->comm);
}

/* Written once: pages that were never written are all the same page of zeros. */
static int open_probe(struct bench *b)
{
    enum { BLOCK = 1 << 16 };
    const size_t n = probe_bytes(b);
    unsigned char block[BLOCK];

    memset(block, 0x5a, sizeof block);
    TRY(ops_alloc(b->machine.device, n, &b->probe_bytes));
    for (size_t i = 0; i + BLOCK <= n; i += BLOCK)
        TRY(ops_upload(b->machine.device, (char *)b->probe_bytes + i, block, BLOCK));
    b->subject.probe_bytes = b->probe_bytes;
    b->subject.n_probe_bytes = n;
    return OK;
}

static int open_inputs(struct bench *b)
{
    const size_t px = (size_t)b->cfg.vision.image_px, n_image = (size_t)b->cfg.vision.n_patches;
    const size_t n_text = (size_t)b->options->bench_text_tokens, n_ids = n_image + n_text;
    const int n_words =
        b->cfg.image_token < b->cfg.text.n_vocab ? b->cfg.image_token : b->cfg.text.n_vocab;

    b->pixels = malloc(3 * px * px * sizeof *b->pixels);
    b->ids = malloc(n_ids * sizeof *b->ids);
    b->tokens = malloc((size_t)b->options->max_new_tokens * sizeof *b->tokens);
    b->round = calloc(BENCH_MAX_ROUNDS, sizeof *b->round);
    if (!b->pixels || !b->ids || !b->tokens || !b->round)
        return FAIL(ERR_NOMEM, "an image of %zu x %zu and %zu tokens", px, px, n_ids);
    for (size_t i = 0; i < 3 * px * px; i++)
        b->pixels[i] = (float)(i * 2654435761u % 255) / 127.0f - 1.0f;
    for (size_t i = 0; i < n_ids; i++)
        b->ids[i] = i < n_image ? b->cfg.image_token : (int32_t)((i * 7919) % (size_t)n_words);
    for (int i = 0; i < OPS_MAX_ROWS; i++) {
        b->image[i] = b->pixels;
        b->slot[i] = i;
    }
    b->subject.pixels = b->image;
    b->subject.slot = b->slot;
    b->subject.seq = b->seq;
    b->subject.ids = b->ids;
    b->subject.n_ids = n_ids;
    b->subject.tokens = b->tokens;
    b->subject.n_new =
        b->axes.phases & (BENCH_DECODE | BENCH_E2E | BENCH_MEMORY) ? b->options->max_new_tokens : 1;
    return OK;
}

static int largest_batch(const struct bench_axes *a)
{
    int n = a->batch[0];

    for (size_t i = 1; i < a->n_batches; i++)
        n = a->batch[i] > n ? a->batch[i] : n;
    return n;
}

static struct engine_params engine_params_of(const struct bench *b, enum weights_form form)
{
    return (struct engine_params){
        .decoder = {.embed_scale = weights_dtype(b->weights)},
        .weights = form,
        .int4_group = b->row.int4_group,
        .place = (enum weights_place)b->options->load,
        .max_prompt_tokens = b->cfg.vision.n_patches + b->options->bench_text_tokens,
        .max_new_tokens = b->options->max_new_tokens,
        .max_images = largest_batch(&b->axes),
        .max_beams = 1,
        .max_seqs = largest_batch(&b->axes),
        .greedy = b->greedy,
    };
}

static int open_engine(struct bench *b, enum weights_form form, struct weights_stats *stats)
{
    const struct engine_params p = engine_params_of(b, form);

    engine_destroy(b->engine);
    b->engine = NULL;
    return engine_create(&b->engine, &b->cfg, &p, b->weights, device_of(b), b->comm, stats);
}

/* Bytes of an element of the decoder's matrices, scales included. */
static double matrix_bytes(const struct bench *b, enum weights_form form)
{
    switch (form) {
    case WEIGHTS_INT4:
        return 0.5 + 4.0 / b->row.int4_group; /* f16 scale and minimum for each group */
    case WEIGHTS_INT8:
        return 1; /* and a scale a row, too little to count */
    case WEIGHTS_BF16:
        return 2;
    case WEIGHTS_AS_STORED:
        break;
    }
    return (double)dtype_bytes(weights_dtype(b->weights));
}

static const char *weights_name(const struct bench *b, enum weights_form form)
{
    if (form != WEIGHTS_AS_STORED)
        return bench_weights_name(form);
    switch (weights_dtype(b->weights)) {
    case DTYPE_BF16:
        return "bf16";
    case DTYPE_F16:
        return "f16";
    default:
        return "f32";
    }
}

static void close_case(struct bench *b)
{
    engine_destroy(b->engine);
    if (b->machine.device)
        ops_free(b->machine.device, b->probe_bytes);
    ops_close(b->timed);
    machine_release(&b->machine);
    free(b->pixels);
    free(b->ids);
    free(b->tokens);
    free(b->round);
    b->engine = NULL;
    b->timed = NULL;
    b->probe_bytes = NULL;
    b->pixels = NULL;
    b->ids = b->tokens = NULL;
    b->round = NULL;
}

/* ---- phases ---- */

static int print_row(const struct bench *b, const struct bench_row *row)
{
    const enum bench_form form = (enum bench_form)b->options->bench_output;

    return comm_agree(b->comm, comm_rank(b->comm) == 0 ? bench_rows_print(stdout, form, row) : OK);
}

/* Loading: everything from the index in memory to weights in place. At least once. */
static int run_load(struct bench *b, enum weights_form form)
{
    const bool is_asked = b->axes.phases & BENCH_LOAD;
    const size_t n = is_asked ? (size_t)b->options->bench_repetitions : 1;
    double rate[BENCH_MAX_ROUNDS], ms[BENCH_MAX_ROUNDS], scratch[BENCH_MAX_ROUNDS];
    bool is_good[BENCH_MAX_ROUNDS];
    struct bench_row row = b->row;

    for (size_t i = 0; i < n; i++) {
        struct weights_stats stats = {0};
        int64_t us, start = clock_us();

        TRY(open_engine(b, form, &stats));
        us = clock_us() - start;
        TRY(comm_allreduce_max(b->comm, &us, 1, DTYPE_I64));
        ms[i] = (double)us / 1e3;
        rate[i] = us > 0 ? (double)stats.group_bytes / (double)us / 1e3 : 0;
        is_good[i] = true;
    }
    if (!is_asked)
        return OK;
    row.phase = "load";
    row.unit = "GB/s";
    bench_summarise(&row.rate, rate, is_good, n, scratch);
    bench_summarise(&row.ms, ms, is_good, n, scratch);
    return print_row(b, &row);
}

/* How long it took from the start of the processes to the first work on a picture. Every case after
 * the first has the time of those before it in it. */
static int run_start(struct bench *b)
{
    struct bench_row row = b->row;
    double scratch[1], ms[1];
    const bool is_good[1] = {true};
    int64_t us;

    TRY(comm_agree(b->comm, OK));
    us = clock_process_us();
    TRY(comm_agree(b->comm, engine_encode_many(b->engine, b->subject.pixels, b->subject.slot, 1)));
    TRY(comm_allreduce_max(b->comm, &us, 1, DTYPE_I64));
    ms[0] = (double)us / 1e3;
    row.phase = "start";
    row.unit = "ms";
    bench_summarise(&row.rate, ms, is_good, 1, scratch);
    row.ms = row.rate;
    return print_row(b, &row);
}

/* Peak memory of all ranks, code and libraries included, against what the engine plans. The probes'
 * memory is not there yet. */
static int run_memory(struct bench *b, enum weights_form form)
{
    const struct engine_model model = engine_model_of(b->weights, &b->cfg);
    const struct engine_params p = engine_params_of(b, form);
    const bool is_good[1] = {true};
    struct bench_row row = b->row;
    struct bench_round round;
    struct engine_memory plan;
    double scratch[1], peak[1];
    int64_t bytes[2];

    row.batch = b->subject.batch = largest_batch(&b->axes);
    TRY(bench_round_run(&b->subject, &round));
    TRY(comm_agree(b->comm,
                   engine_plan_bytes(&plan, &model, &p, comm_size(b->comm), comm_rank(b->comm))));
    bytes[0] = (int64_t)clock_peak_rss_bytes();
    bytes[1] = (int64_t)plan.total;
    TRY(comm_allreduce_sum(b->comm, bytes, 2, DTYPE_I64));
    peak[0] = (double)bytes[0] / 1e9;
    row.phase = "memory";
    row.unit = "GB";
    row.ceiling = (double)bytes[1] / 1e9;
    row.share = peak[0] / row.ceiling;
    bench_summarise(&row.rate, peak, is_good, 1, scratch);
    return print_row(b, &row);
}

/* Sums over ranks of so many tokens' rows, as decoding and prefill do it. */
static int run_comm(struct bench *b, const char *phase, size_t n_tok, int n_calls)
{
    const size_t n = n_tok * (size_t)b->cfg.text.d_model + 1;
    const size_t n_rounds = (size_t)b->options->bench_repetitions;
    double us[BENCH_MAX_ROUNDS], ms[BENCH_MAX_ROUNDS], scratch[BENCH_MAX_ROUNDS];
    bool is_good[BENCH_MAX_ROUNDS];
    struct bench_row row = b->row;
    int64_t *sums = calloc(n, sizeof *sums), start;
    int rc = comm_agree(b->comm, sums ? OK : FAIL(ERR_NOMEM, "%zu sums", n));

    for (size_t r = 0; rc == OK && r <= n_rounds; r++) { /* round 0 warms up */
        start = clock_us();
        for (int i = 0; rc == OK && i < n_calls; i++)
            rc = comm_allreduce_sum(b->comm, sums, n, DTYPE_I64);
        if (r == 0)
            continue;
        us[r - 1] = (double)(clock_us() - start) / n_calls;
        ms[r - 1] = us[r - 1] / 1e3;
        is_good[r - 1] = true;
    }
    free(sums);
    TRY(rc);
    row.phase = phase;
    row.unit = "us";
    row.bytes = (double)(n * sizeof *sums);
    bench_summarise(&row.rate, us, is_good, n_rounds, scratch);
    bench_summarise(&row.ms, ms, is_good, n_rounds, scratch);
    return print_row(b, &row);
}

/* Exact sums of a layer beside those in f32: share is what f32 would take of the time. */
static int run_sums(struct bench *b, const char *name, enum ops_phase phase, size_t n_tok)
{
    const size_t n_rounds = (size_t)b->options->bench_repetitions;
    double exact[BENCH_MAX_ROUNDS], plain[BENCH_MAX_ROUNDS], share[BENCH_MAX_ROUNDS];
    double scratch[BENCH_MAX_ROUNDS];
    bool is_good[BENCH_MAX_ROUNDS];
    struct bench_row row = b->row;

    TRY(comm_agree(b->comm, bench_sums(b->machine.device, &b->cfg.text, phase, n_tok, n_rounds,
                                       exact, plain)));
    for (size_t i = 0; i < n_rounds; i++) {
        share[i] = exact[i] > 0 ? plain[i] / exact[i] : 0;
        is_good[i] = true;
    }
    row.phase = name;
    row.unit = "us";
    bench_summarise(&row.rate, exact, is_good, n_rounds, scratch);
    row.ceiling = bench_median(plain, n_rounds);
    row.share = bench_median(share, n_rounds);
    return print_row(b, &row);
}

static int run_rounds(struct bench *b, size_t *n_rounds)
{
    const size_t n_wanted = (size_t)b->options->bench_repetitions;
    size_t n_good = 0, n = 0;
    struct bench_round warm_up;

    TRY(bench_round_run(&b->subject, &warm_up));
    while (n_good < n_wanted && n < 2 * n_wanted) {
        TRY(bench_round_run(&b->subject, &b->round[n]));
        n_good += bench_round_is_steady(&b->round[n]);
        n++;
    }
    *n_rounds = n;
    return OK;
}

static int print_figures(struct bench *b, size_t n_rounds)
{
    static const unsigned phase_of[BENCH_N_FIGURES] = {
        [BENCH_FIGURE_VISION] = BENCH_VISION,   [BENCH_FIGURE_PREFILL_TEXT] = BENCH_PREFILL,
        [BENCH_FIGURE_PREFILL] = BENCH_PREFILL, [BENCH_FIGURE_DECODE] = BENCH_DECODE,
        [BENCH_FIGURE_E2E] = BENCH_E2E,
    };

    for (int i = 0; i < BENCH_N_FIGURES; i++) {
        struct bench_row row = b->row;
        struct bench_account account;

        if (!(b->axes.phases & phase_of[i]))
            continue;
        bench_figure(&row, &account, (enum bench_figure)i, &b->subject, b->round, n_rounds);
        TRY(print_row(b, &row));
    }
    return OK;
}

static int run_passes(struct bench *b)
{
    size_t n_rounds;

    for (size_t i = 0; i < b->axes.n_batches; i++) {
        b->subject.batch = b->row.batch = b->axes.batch[i];
        TRY(run_rounds(b, &n_rounds));
        TRY(print_figures(b, n_rounds));
    }
    b->row.batch = 1;
    return OK;
}

/* ---- paced ---- */

/* The next line's batch on every rank; -1 when there is none. */
static int next_turn(struct bench *b, int64_t *batch)
{
    const int most = largest_batch(&b->axes);
    char line[32], *end;
    int rc = OK;

    *batch = -1;
    if (comm_rank(b->comm) == 0 && fgets(line, sizeof line, stdin)) {
        *batch = strtol(line, &end, 10);
        if (end == line || *end != '\n' || *batch < 0 || *batch > most)
            rc = FAIL(ERR_USAGE, "standard input: '%.*s' is not a batch of at most %d",
                      (int)strcspn(line, "\n"), line, most);
    }
    TRY(comm_agree(b->comm, rc));
    return comm_allreduce_max(b->comm, batch, 1, DTYPE_I64);
}

static int print_probe(struct bench *b)
{
    struct bench_row row = b->row;
    struct bench_probe p;

    TRY(bench_probe(&b->subject, &p));
    row.phase = "probe";
    row.unit = "GB/s";
    row.read_gb_s = p.read / 1e9;
    row.gflop_s = p.flops / 1e9;
    row.bytes = (double)b->subject.n_probe_bytes * comm_size(b->comm);
    row.rate = (struct bench_summary){.median = row.read_gb_s,
                                      .min = row.read_gb_s,
                                      .max = row.read_gb_s,
                                      .n = 1,
                                      .is_steady = true};
    return print_row(b, &row);
}

static int run_paced(struct bench *b)
{
    int64_t batch;
    int rc;

    while ((rc = next_turn(b, &batch)) == OK && batch >= 0) {
        b->subject.batch = b->row.batch = (int)batch;
        if (batch == 0) {
            TRY(print_probe(b));
            continue;
        }
        TRY(bench_round_run(&b->subject, &b->round[0]));
        TRY(print_figures(b, 1));
    }
    return rc;
}

/* ---- all phases ---- */

/* The plan counts what the device holds, the peak what the processes do: comparable on the host. */
static int check_phases(const struct bench *b)
{
    if (!(b->axes.phases & BENCH_MEMORY) || ops_is_host(b->machine.device))
        return OK;
    return comm_rank(b->comm) == 0
               ? FAIL(ERR_USAGE,
                      "bench --phases memory compares the plan with memory of the processes, and "
                      "device %s has memory of its own; add --device cpu or leave memory out",
                      ops_name(b->machine.device))
               : ERR_USAGE;
}

static int run_phases(struct bench *b, enum weights_form form)
{
    const bool has_account = b->options->bench_account;

    TRY(check_phases(b));
    b->subject = (struct bench_subject){.comm = b->comm, .has_account = has_account};
    if (has_account)
        TRY(comm_agree(b->comm, ops_open_timed(&b->timed, b->machine.device)));
    b->subject.device = device_of(b);
    b->row.device = ops_name(b->machine.device);
    b->row.threads = b->machine.n_threads;
    TRY(comm_agree(b->comm, open_inputs(b)));
    b->row.new_tokens = b->subject.n_new;
    if (b->axes.phases & BENCH_COMM) {
        TRY(run_comm(b, "comm", 1, 500));
        TRY(run_comm(b, "comm_tile", COMM_TILE_TOKENS, 10));
    }
    if (b->axes.phases & BENCH_SUMS) {
        TRY(run_sums(b, "sums_prefill", OPS_PHASE_PREFILL, tp_tile_rows(b->subject.n_ids)));
        TRY(run_sums(b, "sums_decode", OPS_PHASE_DECODE, 1));
    }
    if (!(b->axes.phases & ~(unsigned)(BENCH_COMM | BENCH_SUMS)))
        return OK;
    TRY(run_load(b, form));
    b->subject.engine = b->engine;
    b->subject.matrix_bytes = matrix_bytes(b, form);
    if (b->axes.phases & BENCH_START)
        TRY(run_start(b));
    if (b->axes.phases & BENCH_MEMORY)
        TRY(run_memory(b, form));
    if (!(b->axes.phases & PASSES))
        return OK;
    TRY(comm_agree(b->comm, open_probe(b)));
    return b->options->bench_paced ? run_paced(b) : run_passes(b);
}

/* ---- all cases ---- */

static int run_case(struct bench *b, enum weights_form form, int n_threads)
{
    struct machine_params params = machine_params_of(b->options);
    int rc;

    params.n_threads = n_threads;
    rc = machine_open(&b->machine, &params, b->comm);
    if (rc == OK)
        rc = run_phases(b, form);
    close_case(b);
    return rc;
}

/* Rank 0 first, so that what all would meet is told once. */
static int open_model(struct bench *b, const char *model)
{
    const bool is_lead = comm_rank(b->comm) == 0;
    struct tp_plan plan;
    int rc = is_lead ? weights_open(&b->weights, &b->cfg, model) : OK;

    if (rc == OK && is_lead)
        rc = tp_plan_make(&plan, &b->cfg, comm_size(b->comm), 0);
    TRY(comm_agree(b->comm, rc));
    return comm_agree(b->comm, is_lead ? OK : weights_open(&b->weights, &b->cfg, model));
}

static int run_greedy(struct bench *b, enum weights_form form, int greedy)
{
    b->greedy = (enum engine_greedy)greedy;
    b->row.greedy = bench_greedy_name(greedy);
    for (size_t t = 0; t < b->axes.n_threads; t++)
        TRY(run_case(b, form, b->axes.threads[t]));
    return OK;
}

static int run_model(struct bench *b, const char *model)
{
    b->row = (struct bench_row){
        .model = model,
        .ranks = comm_size(b->comm),
        .text_tokens = b->options->bench_text_tokens,
        .activations = session_activations(b->options),
        .batch = 1,
    };
    TRY(open_model(b, model));
    for (size_t w = 0; w < b->axes.n_weights; w++) {
        enum weights_form form = (enum weights_form)b->axes.weights[w];
        size_t group = 32 << b->options->int4_group, stored = 0;

        if (form == WEIGHTS_AS_STORED)
            form = weights_stored_form(b->weights, &stored);
        group = stored ? stored : group;
        b->row.int4_group = form == WEIGHTS_INT4 ? (int)group : 0;
        TRY(session_check_activations(b->options, form, b->comm));
        b->row.weights = weights_name(b, form);
        for (size_t g = 0; g < b->axes.n_greedy; g++)
            TRY(run_greedy(b, form, b->axes.greedy[g]));
    }
    return OK;
}

int cmd_bench(const struct options *o, struct command_start *s)
{
    struct bench b = {.options = o, .comm = s->comm};
    char error[BENCH_ERROR_BYTES];
    int rc = bench_axes_parse(&b.axes, o, error); /* options_check has told what is wrong */

    TRY(rc);
    if (comm_rank(s->comm) == 0)
        bench_rows_begin(stdout, (enum bench_form)o->bench_output);
    for (size_t i = 0; rc == OK && i < b.axes.n_models; i++) {
        rc = run_model(&b, b.axes.model[i]);
        weights_close(b.weights);
        b.weights = NULL;
    }
    return rc;
}

/* The command line: one table of options for all commands.
 *
 * A row of the table (options_table.c) gives an option's key, type, place, default, range, help
 * and commands; parsing, --help, --print-config, the digest that ranks compare and the checks of
 * ranges all come from it. Values come from the defaults, then from --config FILE, then from the
 * command line. `-` and `_` in keys are the same.
 *
 * Parsing never fails: what is wrong is kept in `error` and told once, by rank 0, when ranks are
 * known. --help, --version and --print-config can be answered before that. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "digest.h"

/* Bits, as an option belongs to several. */
enum command {
    COMMAND_NONE = 1,
    COMMAND_RUN = 2,
    COMMAND_DUMP = 4,
    COMMAND_INFO = 8,
    COMMAND_BENCH = 16,
    COMMAND_BATCH = 32,
    COMMAND_EXPORT = 64,
    COMMAND_CONVERT = 128,
    COMMAND_PLAN = 1024,
    COMMAND_CHECK = 256,
    COMMAND_STATUS = 512,
    COMMAND_SIMULATE = 2048,
};

enum { OPTIONS_MAX_ROWS = 192, OPTIONS_ERROR_BYTES = 600 };

struct text_list {
    char **item; /* owned */
    size_t n, cap;
};

enum option_device { DEVICE_AUTO, DEVICE_CPU, DEVICE_REF, DEVICE_CUDA };
enum option_embed_scale { EMBED_SCALE_AUTO, EMBED_SCALE_F32, EMBED_SCALE_BF16, EMBED_SCALE_F16 };

struct options {
    enum command command;
    int rc; /* ERR_USAGE or ERR_NOMEM when error says something */
    char error[OPTIONS_ERROR_BYTES];
    uint8_t origin[OPTIONS_MAX_ROWS]; /* of each row's value: enum option_origin */

    bool help, version, print_config;
    char *config;

    /* model */
    char *model, *tokenizer;
    int window;          /* enum decoder_window */
    double attn_softcap; /* < 0: as config.json says; 0: off */
    double logit_softcap;
    int embed_scale; /* enum option_embed_scale */
    int weights;     /* enum weights_form */
    int activations; /* enum ops_activations */
    int int4_group;  /* 32 << it */
    int load;        /* enum weights_place */

    /* images and prompts */
    struct text_list prompts, images;
    char *list, *images_dir;
    bool together, parse_special;
    int exif;   /* enum image_exif */
    int passes; /* enum image_pass_order */
    int max_pixels;

    /* generation */
    int max_new_tokens, beams, top_k;
    double length_penalty, temperature, top_p;
    uint64_t seed;
    bool ignore_eos;
    int greedy; /* enum engine_greedy */

    /* dump */
    char *cases, *out, *force;
    int steps;

    /* bench; comma lists, see bench_axes.h */
    char *bench_phases, *bench_weights, *bench_greedy, *bench_threads, *bench_batch;
    int bench_repetitions, bench_text_tokens;
    int bench_output; /* enum bench_form */
    bool bench_account, bench_paced;

    /* plan */
    int plan_nodes, plan_ranks_per_node, plan_prompt_tokens, plan_batch, plan_tp;
    uint64_t plan_input_count;
    char *plan_memory, *plan_machine;
    bool plan_print_machine;

    /* batch and export */
    int shards; /* 0: one job alone */
    char *input, *output_path, *exports, *categories, *retry_errors, *memory, *queue_memory;
    int input_format; /* enum dataset_format */
    int tp, replicas, batch, max_images, max_text_tokens;
    int vision; /* enum engine_vision */
    int frames, sampling, shortage; /* enum dataset_sampling, dataset_short */
    double sampling_step;
    double limit; /* < 0: all */
    double max_error_rate, sync_s, progress_s, deadline_s, drain_s;
    bool allow_idle;

    /* simulate */
    double simulate_records, simulate_ms;

    /* check */
    char *check_index;
    bool check_write_index;

    /* status */
    char *status_dir;
    double status_every_s;

    /* program */
    int device;  /* enum option_device */
    int isa;     /* enum ops_isa */
    int threads; /* 0: this rank's share of the CPUs */
    bool share_gpu, reproducible, cuda_graphs;
    bool preflight;
    bool json;
    int comm; /* enum comm_transport */
    double comm_timeout_s;
    int log_level;  /* enum log_level */
    int log_format; /* enum log_format */
};

/* Reads argv[1..]; o is to be released in any case. */
void options_parse(struct options *o, int argc, char *const *argv);
void options_release(struct options *o);

/* Help of o's command (COMMAND_NONE: of the program), and all values that apply to it in the
 * form that --config reads. */
void options_print_help(FILE *f, enum command c);
/* All commands and their options as one JSON object (paligrid --help --json). */
void options_print_json(FILE *f);
void options_print_config(FILE *f, const struct options *o);
/* Identity of command, values and error, but for values that ranks may differ in (threads).
 * ERR_NOMEM. */
int options_digest(const struct options *o, struct digest *out);

#endif

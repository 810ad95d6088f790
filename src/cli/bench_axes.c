/* Comma lists of bench; see bench_axes.h. */
#include "bench_axes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"
#include "status.h"

enum { MAX_THREADS = 4096 };

static const char *const weights_name[] = {"auto", "bf16", "int8", "int4"}; /* enum weights_form */

static const char *const greedy_name[] = {"full", "screened"}; /* enum engine_greedy */

const char *bench_weights_name(int form)
{
    return weights_name[form];
}

const char *bench_greedy_name(int greedy)
{
    return greedy_name[greedy];
}

/* The next item of a list; NULL at its end. Empty items are items. */
static const char *next_item(const char **rest, size_t *n)
{
    const char *item = *rest;

    if (!item)
        return NULL;
    *n = strcspn(item, ",");
    *rest = item[*n] ? item + *n + 1 : NULL;
    return item;
}

static int bad(char error[BENCH_ERROR_BYTES], const char *option, const char *item, size_t n,
               const char *what)
{
    snprintf(error, BENCH_ERROR_BYTES, "%s: '%.*s' %s", option, (int)(n < 60 ? n : 60), item, what);
    return ERR_USAGE;
}

static int parse_models(struct bench_axes *a, const char *list, char error[BENCH_ERROR_BYTES])
{
    const char *item;
    size_t n;

    while ((item = next_item(&list, &n))) {
        if (n == 0 || n >= BENCH_MAX_MODEL || a->n_models == BENCH_MAX_VALUES)
            return bad(error, "--model", item, n, "is empty, too long or one too many");
        memcpy(a->model[a->n_models], item, n);
        a->model[a->n_models++][n] = '\0';
    }
    return OK;
}

static int parse_numbers(int *out, size_t *n_out, const char *option, const char *list, int min,
                         char error[BENCH_ERROR_BYTES])
{
    const char *item;
    size_t n;

    while ((item = next_item(&list, &n))) {
        char *end;
        long v = strtol(item, &end, 10);

        if (n == 0 || end != item + n || v < min || v > MAX_THREADS || *n_out == BENCH_MAX_VALUES)
            return bad(error, option, item, n, "is not a number in range, or one too many");
        out[(*n_out)++] = (int)v;
    }
    return OK;
}

/* The place of an item in words; -1. */
static int find_word(const char *const *words, size_t n_words, const char *item, size_t n)
{
    for (size_t i = 0; i < n_words; i++) {
        if (strlen(words[i]) == n && memcmp(words[i], item, n) == 0)
            return (int)i;
    }
    return -1;
}

/* Words of one option, and what is said of any other. */
struct words {
    const char *option;
    const char *const *word;
    size_t n;
    const char *refusal;
};

static int parse_words(int *out, size_t *n_out, const struct words *w, const char *list,
                       char error[BENCH_ERROR_BYTES])
{
    const char *item;
    size_t n;

    while ((item = next_item(&list, &n))) {
        int i = find_word(w->word, w->n, item, n);

        if (i < 0 || *n_out == BENCH_MAX_VALUES)
            return bad(error, w->option, item, n, w->refusal);
        out[(*n_out)++] = i;
    }
    return OK;
}

static int parse_weights(struct bench_axes *a, const char *list, char error[BENCH_ERROR_BYTES])
{
    const struct words forms = {"--weights", weights_name,
                                sizeof weights_name / sizeof weights_name[0],
                                "is not one of auto, bf16, int8, int4"};

    return parse_words(a->weights, &a->n_weights, &forms, list, error);
}

static int parse_greedy(struct bench_axes *a, const char *list, char error[BENCH_ERROR_BYTES])
{
    const struct words ways = {"--greedy", greedy_name, sizeof greedy_name / sizeof greedy_name[0],
                               "is not one of full, screened"};

    return parse_words(a->greedy, &a->n_greedy, &ways, list, error);
}

static int parse_phases(struct bench_axes *a, const char *list, char error[BENCH_ERROR_BYTES])
{
    static const char *const name[] = {"vision", "prefill", "decode", "e2e", "load",
                                       "comm",   "start",   "memory", "sums"};
    const char *item;
    size_t n;

    while ((item = next_item(&list, &n))) {
        int i = find_word(name, sizeof name / sizeof name[0], item, n);

        if (i < 0)
            return bad(
                error, "--phases", item, n,
                "is not one of vision, prefill, decode, e2e, load, comm, start, memory, sums");
        a->phases |= 1u << i;
    }
    return OK;
}

int bench_axes_parse(struct bench_axes *a, const struct options *o, char error[BENCH_ERROR_BYTES])
{
    *a = (struct bench_axes){0};
    TRY(parse_models(a, o->model, error));
    TRY(parse_weights(a, o->bench_weights, error));
    TRY(parse_greedy(a, o->bench_greedy, error));
    TRY(parse_phases(a, o->bench_phases, error));
    TRY(parse_numbers(a->threads, &a->n_threads, "--threads", o->bench_threads, 0, error));
    TRY(parse_numbers(a->batch, &a->n_batches, "--batch", o->bench_batch, 1, error));
    if (o->bench_paced &&
        (a->n_models > 1 || a->n_weights > 1 || a->n_greedy > 1 || a->n_threads > 1)) {
        snprintf(error, BENCH_ERROR_BYTES,
                 "--paced takes one model, one form of the weights, one --greedy and one number of "
                 "threads");
        return ERR_USAGE;
    }
    for (size_t i = 0; i < a->n_batches; i++) {
        if (a->batch[i] > OPS_MAX_ROWS) {
            snprintf(error, BENCH_ERROR_BYTES, "--batch: %d, but at most %d sequences share a step",
                     a->batch[i], OPS_MAX_ROWS);
            return ERR_USAGE;
        }
    }
    return OK;
}

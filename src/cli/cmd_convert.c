/* paligrid convert: a checkpoint in another form, as one file that any rank count opens.
 *
 * What the model needs beside its tensors goes along: the configuration's files and the tokenizer,
 * so that model.h5 alone is a model. A formula's configuration is written as a config.json. */
#include "commands.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "clock.h"
#include "engine.h"
#include "file.h"
#include "status.h"

enum { MAX_CARRIED_BYTES = 64 << 20 };

static const char *const carried[] = {"config.json", "generation_config.json",
                                      "preprocessor_config.json", "tokenizer.model"};
enum { N_CARRIED = sizeof carried / sizeof *carried };

struct conversion {
    const struct options *options;
    struct weights *weights;
    struct model_config cfg;
    struct weights_carry carry[N_CARRIED]; /* bytes owned */
    size_t n_carry;
};

/* A file that is not there is left out. */
static int read_file(const char *path, char **bytes, size_t *n_bytes)
{
    const int fd = file_open_read(path);

    *bytes = NULL;
    if (fd < 0)
        return errno == ENOENT ? OK : FAIL(ERR_IO, "%s: %m", path);
    return file_read_all(fd, path, MAX_CARRIED_BYTES, ERR_MODEL, bytes, n_bytes);
}

static void add_carried(struct conversion *v, const char *name, char *bytes, size_t n)
{
    v->carry[v->n_carry++] = (struct weights_carry){.name = name, .bytes = bytes, .n_bytes = n};
}

static int carry_from_folder(struct conversion *v, const char *dir)
{
    for (size_t i = 0; i < N_CARRIED; i++) {
        char path[PATH_MAX], *bytes;
        size_t n;

        if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, carried[i]) >= sizeof path)
            return FAIL(ERR_MODEL, "%.200s...: the path is too long", dir);
        TRY(read_file(path, &bytes, &n));
        if (bytes)
            add_carried(v, carried[i], bytes, n);
    }
    return OK;
}

static int carry_configuration(struct conversion *v)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);

    if (!f)
        return FAIL(ERR_NOMEM, "configuration");
    config_print_json(f, &v->cfg);
    if (fclose(f) != 0) {
        free(text);
        return FAIL(ERR_NOMEM, "configuration");
    }
    add_carried(v, carried[0], text, n);
    return OK;
}

/* A converted model's own files, once more. */
static int carry_again(struct conversion *v)
{
    for (size_t i = 0; i < N_CARRIED; i++) {
        const void *bytes;
        char *copy;
        size_t n;

        weights_carried(v->weights, carried[i], &bytes, &n);
        if (!bytes)
            continue;
        copy = malloc(n + 1);
        if (!copy)
            return FAIL(ERR_NOMEM, "%s", carried[i]);
        memcpy(copy, bytes, n);
        add_carried(v, carried[i], copy, n);
    }
    return OK;
}

static int carry(struct conversion *v)
{
    const void *bytes;
    size_t n;

    weights_carried(v->weights, carried[0], &bytes, &n);
    if (bytes)
        return carry_again(v);
    return weights_is_synthetic(v->weights) ? carry_configuration(v)
                                            : carry_from_folder(v, v->options->model);
}

static int convert(struct conversion *v)
{
    const struct options *o = v->options;
    const struct engine_params p = {
        .decoder = {.embed_scale = DTYPE_F32}, /* not used: nothing is computed */
        .weights = (enum weights_form)o->weights,
        .int4_group = 32 << o->int4_group,
    };

    TRY(weights_open(&v->weights, &v->cfg, o->model));
    TRY(carry(v));
    return engine_convert(v->weights, &v->cfg, &p, v->carry, v->n_carry, o->out);
}

int cmd_convert(const struct options *o, FILE *f)
{
    const int64_t start_us = clock_us();
    struct conversion v = {.options = o};
    struct stat st;
    int rc = convert(&v);

    if (rc == OK && stat(o->out, &st) == 0)
        fprintf(f, "%s: %.3f GB in %.1f s\n", o->out, (double)st.st_size * 1e-9,
                (double)(clock_us() - start_us) * 1e-6);
    for (size_t i = 0; i < v.n_carry; i++)
        free((void *)v.carry[i].bytes);
    weights_close(v.weights);
    return rc;
}

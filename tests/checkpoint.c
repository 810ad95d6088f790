/* Small checkpoints for tests; see the header. The folder is flat, so removing it is a loop over
 * its files. */
#include "checkpoint.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/weights/weights_synthetic.h"
#include "status.h"
#include "whole_file.h"

void checkpoint_make(struct checkpoint *k)
{
    const char *tmp = getenv("TEST_TMP");
    size_t n;
    char *config = whole_file_read(CHECKPOINT_MICRO "/config.json", &n);

    snprintf(k->dir, sizeof k->dir, "%.200s/checkpoint.XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(k->dir));
    checkpoint_write(k, "config.json", config, n);
    free(config);
}

const char *checkpoint_path(const struct checkpoint *k, const char *name)
{
    static char path[CHECKPOINT_ROOM];

    snprintf(path, sizeof path, "%s/%s", k->dir, name);
    return path;
}

void checkpoint_remove(const struct checkpoint *k)
{
    DIR *d = opendir(k->dir);
    struct dirent *e;

    while (d && (e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            remove(checkpoint_path(k, e->d_name));
    if (d)
        closedir(d);
    rmdir(k->dir);
}

void checkpoint_write(const struct checkpoint *k, const char *name, const void *bytes,
                      size_t n_bytes)
{
    whole_file_write(checkpoint_path(k, name), bytes, n_bytes);
}

/* ---- safetensors files ---- */

void st_image_read(struct st_image *x, const char *path)
{
    size_t n;
    char *file = whole_file_read(path, &n);
    uint64_t n_header;

    memcpy(&n_header, file, sizeof n_header); /* tests run on little-endian machines */
    x->n_header = (size_t)n_header;
    x->n_data = n - 8 - x->n_header;
    x->header = malloc(x->n_header + 1);
    x->data = malloc(x->n_data + 1);
    assert_non_null(x->header);
    assert_non_null(x->data);
    memcpy(x->header, file + 8, x->n_header);
    x->header[x->n_header] = '\0';
    memcpy(x->data, file + 8 + x->n_header, x->n_data);
    free(file);
}

void st_image_release(struct st_image *x)
{
    free(x->header);
    free(x->data);
}

void st_image_replace(struct st_image *x, const char *after, const char *find, const char *by)
{
    char *from = strstr(x->header, after), *at = from ? strstr(from, find) : NULL, *header;
    size_t before;

    if (!at)
        fail_msg("no \"%s\" after \"%s\" in the header", find, after);
    before = (size_t)(at - x->header);
    header = malloc(x->n_header + strlen(by) + 1);
    assert_non_null(header);
    sprintf(header, "%.*s%s%s", (int)before, x->header, by, at + strlen(find));
    free(x->header);
    x->header = header;
    x->n_header = strlen(header);
}

void st_image_write(const struct st_image *x, const struct checkpoint *k, const char *name)
{
    uint64_t n = x->n_header;
    FILE *f = fopen(checkpoint_path(k, name), "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(&n, 1, sizeof n, f), sizeof n);
    assert_int_equal(fwrite(x->header, 1, x->n_header, f), x->n_header);
    assert_int_equal(fwrite(x->data, 1, x->n_data, f), x->n_data);
    assert_int_equal(fclose(f), 0);
}

void checkpoint_write_container(const struct checkpoint *k, const char *name, const char *header,
                                size_t n_data)
{
    struct st_image x = {.header = strdup(header),
                         .n_header = strlen(header),
                         .data = calloc(1, n_data + 1),
                         .n_data = n_data};

    assert_non_null(x.header);
    assert_non_null(x.data);
    st_image_write(&x, k, name);
    st_image_release(&x);
}

void checkpoint_refused(const struct checkpoint *k, const char *what, int rc,
                        const char *const *says, size_t n_says)
{
    struct model_config cfg;
    struct weights *w = NULL;
    int got = weights_open(&w, &cfg, k->dir);

    if (got != rc)
        fail_msg("%s: %s: %s", what, status_name(got), log_last_error());
    for (size_t i = 0; i < n_says && says[i]; i++)
        if (!strstr(log_last_error(), says[i]))
            fail_msg("%s: \"%s\" does not say \"%s\"", what, log_last_error(), says[i]);
    assert_null(w);
}

/* ---- asking for everything ---- */

static int add_name(void *ctx, const struct synthetic_tensor *t)
{
    struct everything *all = ctx;

    assert_true(all->n < CHECKPOINT_MAX_TENSORS);
    snprintf(all->name[all->n], sizeof all->name[0], "%s", t->name);
    all->view[all->n].n_dims = t->n_dims;
    memcpy(all->view[all->n].dim, t->dim, sizeof t->dim);
    all->n++;
    return OK;
}

void everything_of(struct everything *all, const struct model_config *cfg)
{
    const struct synthetic_spec spec = {.embed_rms = 1, .score_std = 1};

    memset(all, 0, sizeof *all);
    assert_int_equal(synthetic_each_tensor(&spec, cfg, add_name, all), OK);
}

static int load_opened(struct loaded *x)
{
    struct weights_list *list;
    struct comm *self;
    int rc;

    assert_int_equal(comm_create_self(&self), OK);
    assert_int_equal(weights_list_create(&list), OK);
    everything_of(&x->all, &x->cfg);
    for (size_t i = 0; i < x->all.n; i++) {
        struct tensor *t = &x->all.view[i];
        size_t n_cols = 1;
        for (int j = 1; j < t->n_dims; j++)
            n_cols *= t->dim[j];
        assert_int_equal(
            weights_want(list, x->all.name[i], t->n_dims, t->dim, 0, t->dim[0], 0, n_cols, true, t),
            OK);
    }
    rc = weights_load(x->w, list, x->device, self, &x->block, &x->stats);
    weights_list_destroy(list);
    comm_destroy(self);
    return rc;
}

int load_everything(struct loaded *x, const char *model)
{
    int rc;

    memset(x, 0, sizeof *x);
    rc = weights_open(&x->w, &x->cfg, model);
    if (rc != OK)
        return rc;
    assert_int_equal(ops_open_ref(&x->device), OK);
    rc = load_opened(x);
    if (rc != OK) {
        weights_close(x->w);
        ops_close(x->device);
    }
    return rc;
}

void loaded_release(struct loaded *x)
{
    arena_release(&x->block);
    weights_close(x->w);
    ops_close(x->device);
}

const struct tensor *loaded_view(const struct loaded *x, const char *hub_name)
{
    for (size_t i = 0; i < x->all.n; i++)
        if (strcmp(x->all.name[i], hub_name) == 0)
            return &x->all.view[i];
    fail_msg("no tensor %s", hub_name);
    return NULL;
}

/* The source for Hugging Face folders: model.safetensors, or shards named by
 * model.safetensors.index.json.
 *
 *     {"metadata": {"total_size": n}, "weight_map": {"name": "model-00001-of-00002.safetensors"}}
 *
 * A shard's name must be a plain file name, so an index cannot reach outside its folder. Index and
 * shards must agree tensor by tensor, both ways. Files stay open: what was checked is what is
 * read. */
#include "weights.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "status.h"
#include "weights_impl.h"
#include "weights_safetensors.h"

static const char SINGLE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";

enum { MAX_SHARDS = 512, MAX_TENSORS = 1 << 16, MAX_INDEX_BYTES = 16 << 20, MAX_PATH = 4096 };

struct folder {
    struct st_file *file;            /* in order of their names */
    struct weights_mapping *mapping; /* [MAX_SHARDS], of the same files */
    size_t n_files, n_tensors;
    char *staging; /* STAGING_BYTES, made at the first need */
};

/* ---- reading rectangles ----
 *
 * A rectangle of whole rows is one contiguous read. One of some columns is strided: n_rows runs, a
 * row apart. Read run by run, only the bytes that are wanted move; but a call costs about as much
 * as copying 2 KiB, so where the gap between two runs is shorter than that, whole rows are read
 * into a staging buffer and the runs picked out of it. In every case the file is prefetched in
 * windows first: disks and file servers see large sequential reads, whose pages the ranks of a
 * node share. */
enum { STAGING_BYTES = 4 << 20, CALL_BYTES = 2048 };

struct runs { /* the file's view of a strided rectangle */
    int64_t at;
    size_t n_runs, run_bytes, stride_bytes;
};

static int read_runs(const struct st_file *f, const struct runs *s, char *out, size_t *read_bytes)
{
    for (size_t i = 0; i < s->n_runs; i++)
        TRY(st_file_read(f, s->at + (int64_t)(i * s->stride_bytes), out + i * s->run_bytes,
                         s->run_bytes));
    *read_bytes += s->n_runs * s->run_bytes;
    return OK;
}

/* Everything from the first run's begin to the last run's end goes through staging. */
static int read_and_pick(struct folder *d, const struct st_file *f, const struct runs *s, char *out,
                         size_t *read_bytes)
{
    size_t n_bytes = (s->n_runs - 1) * s->stride_bytes + s->run_bytes;

    if (!d->staging)
        d->staging = malloc(STAGING_BYTES);
    if (!d->staging)
        return FAIL(ERR_NOMEM, "%s: staging buffer of %d bytes", f->path, STAGING_BYTES);
    TRY(st_file_read(f, s->at, d->staging, n_bytes));
    for (size_t i = 0; i < s->n_runs; i++)
        memcpy(out + i * s->run_bytes, d->staging + i * s->stride_bytes, s->run_bytes);
    *read_bytes += n_bytes;
    return OK;
}

static int read_strided(struct folder *d, const struct st_file *f, const struct runs *all,
                        char *out, size_t *read_bytes)
{
    size_t window = STAGING_BYTES / all->stride_bytes; /* in runs */
    bool pick = all->stride_bytes - all->run_bytes < CALL_BYTES && window > 1;

    if (window == 0)
        window = 1;
    for (size_t i = 0; i < all->n_runs; i += window) {
        struct runs s = *all;
        s.at += (int64_t)(i * s.stride_bytes);
        s.n_runs = all->n_runs - i < window ? all->n_runs - i : window;
        st_file_prefetch(f, s.at, (s.n_runs - 1) * s.stride_bytes + s.run_bytes);
        TRY(pick ? read_and_pick(d, f, &s, out, read_bytes) : read_runs(f, &s, out, read_bytes));
        out += s.n_runs * s.run_bytes;
    }
    return OK;
}

static int folder_read(void *ctx, const struct weights_entry *e, const struct weights_rect *r,
                       void *out, size_t *read_bytes)
{
    struct folder *d = ctx;
    const struct st_file *f = &d->file[e->place];
    const size_t elem = dtype_bytes(e->dtype);
    struct runs s = {
        .at = e->offset + (int64_t)((r->row0 * e->n_cols + r->col0) * elem),
        .n_runs = r->n_rows,
        .run_bytes = r->n_cols * elem,
        .stride_bytes = e->n_cols * elem,
    };

    if (r->n_cols < e->n_cols && r->n_rows > 1)
        return read_strided(d, f, &s, out, read_bytes);
    st_file_prefetch(f, s.at, s.n_runs * s.run_bytes);
    TRY(st_file_read(f, s.at, out, s.n_runs * s.run_bytes));
    *read_bytes += s.n_runs * s.run_bytes;
    return OK;
}

static const void *folder_map(void *ctx, const struct weights_entry *e, size_t row0, bool scales)
{
    struct folder *d = ctx;
    const size_t row_bytes = e->n_cols * dtype_bytes(e->dtype);

    ASSERT(!scales); /* quantised models have another source */
    return weights_map_at(&d->mapping[e->place], d->file[e->place].fd,
                          e->offset + (int64_t)(row0 * row_bytes),
                          (e->n_rows - row0) * row_bytes);
}

static void folder_close(void *ctx)
{
    struct folder *d = ctx;

    for (size_t i = 0; i < d->n_files; i++) {
        weights_unmap(&d->mapping[i]);
        st_file_close(&d->file[i]);
    }
    free(d->mapping);
    free(d->file);
    free(d->staging);
    free(d);
}

static const struct weights_source FOLDER = {
    .name = "safetensors", .read = folder_read, .map = folder_map, .close = folder_close};

/* ---- opening ---- */

static int open_shard(struct folder *d, const char *dir, const char *name)
{
    char path[MAX_PATH];

    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
        return FAIL(ERR_MODEL, "%s: the path is too long", name);
    TRY(st_file_open(&d->file[d->n_files], path));
    d->n_tensors += d->file[d->n_files++].index.n;
    if (d->n_tensors > MAX_TENSORS)
        return FAIL(ERR_MODEL, "%s: more than %d tensors in %zu files", dir, MAX_TENSORS,
                    d->n_files);
    return OK;
}

/* "[A-Za-z0-9._-]+\.safetensors", so neither a slash nor ".." as a whole name can occur. */
static bool shard_name_is_safe(const char *s)
{
    static const char suffix[] = ".safetensors";
    size_t n = strlen(s), m = sizeof suffix - 1;

    return n > m && n <= 255 && strcmp(s + n - m, suffix) == 0 &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct file names of the map, sorted, borrowed from it. At most MAX_SHARDS; -1 when there
 * are more. */
static int distinct_shards(const char *name[MAX_SHARDS], const struct json *map)
{
    struct json_iter it = {0};
    const struct json *value;
    const char *key;
    size_t n = 0;

    while (json_each(map, &it, &key, &value)) {
        const char *s = json_text(value);
        size_t i = n;
        while (i > 0 && strcmp(name[i - 1], s) != 0) /* backwards: neighbours share a file */
            i--;
        if (i > 0)
            continue;
        if (n == MAX_SHARDS)
            return -1;
        name[n++] = s;
    }
    qsort(name, n, sizeof *name, by_text);
    return (int)n;
}

static int check_map(const struct json *map, const char *path)
{
    struct json_iter it = {0};
    const struct json *value;
    const char *key;

    if (!map || json_kind_of(map) != JSON_KIND_OBJECT || json_len(map) == 0)
        return FAIL(ERR_MODEL, "%s: \"weight_map\" is not an object with tensors in it", path);
    while (json_each(map, &it, &key, &value))
        if (json_kind_of(value) != JSON_KIND_STRING || !shard_name_is_safe(json_text(value)))
            return FAIL(ERR_MODEL,
                        "%s: tensor %.256s: \"%.80s\" is not a plain name of a .safetensors file "
                        "in this folder",
                        path, key, json_text(value));
    return OK;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* Names a tensor of the map that no shard has. n_tensors of the map's json_len(map) were found. */
static int fail_not_in_shard(const struct folder *d, size_t n_tensors, const struct json *map,
                             const char *path)
{
    const char **name = calloc(n_tensors + 1, sizeof *name);
    struct json_iter it = {0};
    const struct json *value;
    const char *key;
    size_t n = 0;

    if (!name)
        return FAIL(ERR_NOMEM, "%s: names of %zu tensors", path, n_tensors);
    for (size_t i = 0; i < d->n_files; i++)
        for (size_t j = 0; j < d->file[i].index.n; j++)
            name[n++] = d->file[i].index.tensor[j].name;
    qsort(name, n, sizeof *name, by_text);
    while (json_each(map, &it, &key, &value) && bsearch(&key, name, n, sizeof *name, by_text))
        continue;
    free(name);
    return FAIL(ERR_MODEL, "%s: tensor %.256s is not in %s, the shard it is listed for", path, key,
                json_text(value));
}

/* Every tensor of every shard is in the map under that shard, so none is in two; and the map has no
 * other. */
static int check_shards(const struct folder *d, const struct json *map, const char *path)
{
    size_t n = 0;

    for (size_t i = 0; i < d->n_files; i++) {
        const struct st_file *f = &d->file[i];
        for (size_t j = 0; j < f->index.n; j++, n++) {
            const char *tensor = f->index.tensor[j].name;
            const struct json *where = json_get(map, tensor);
            if (!where)
                return FAIL(ERR_MODEL, "%s: tensor %s is not listed in %s", f->path, tensor, path);
            if (strcmp(json_text(where), base_name(f->path)) != 0)
                return FAIL(ERR_MODEL, "%s: tensor %s is listed in %s as one of %s", f->path,
                            tensor, path, json_text(where));
        }
    }
    return n == json_len(map) ? OK : fail_not_in_shard(d, n, map, path);
}

/* Only a warning: re-saved checkpoints carry stale totals. */
static void check_total(const struct folder *d, const struct json *root, const char *path)
{
    const struct json *metadata = json_get(root, "metadata");
    const struct json *total = NULL;
    int64_t sum = 0;

    if (metadata && json_kind_of(metadata) == JSON_KIND_OBJECT)
        total = json_get(metadata, "total_size");
    if (!total)
        return;
    for (size_t i = 0; i < d->n_files; i++)
        sum += d->file[i].n_bytes - d->file[i].data_at;
    if (json_number(total) != (double)sum)
        log_root(LOG_WARN, "weights", "%s: total_size=%.0f but the shards hold %lld bytes", path,
                 json_number(total), (long long)sum);
}

static int open_shards(struct folder *d, const char *dir, const char *path)
{
    const char *name[MAX_SHARDS];
    const struct json *map;
    struct json_doc *doc;
    int n, rc;

    TRY(json_parse_file(&doc, path, MAX_INDEX_BYTES, ERR_MODEL));
    map = json_kind_of(json_root(doc)) == JSON_KIND_OBJECT ? json_get(json_root(doc), "weight_map")
                                                           : NULL;
    TRY_GOTO(check_map(map, path), free_doc);
    n = distinct_shards(name, map);
    if (n < 0) {
        rc = FAIL(ERR_MODEL, "%s: more than %d shards", path, MAX_SHARDS);
        goto free_doc;
    }
    for (int i = 0; i < n; i++)
        TRY_GOTO(open_shard(d, dir, name[i]), free_doc);
    TRY_GOTO(check_shards(d, map, path), free_doc);
    check_total(d, json_root(doc), path);
free_doc:
    json_free(doc);
    return rc;
}

/* lstat: a broken link is there, and opening it says what is wrong. */
static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* Says what the folder has instead of safetensors. */
static int fail_no_weights(const char *dir)
{
    static const char *const other[] = {".bin",  ".pt", ".pth",     ".ckpt", ".npz",
                                        ".gguf", ".h5", ".msgpack", ".onnx", ".safetensors"};
    char found[256] = "";
    DIR *d = opendir(dir);
    struct dirent *e;

    if (!d)
        return FAIL(ERR_MODEL, "%s: cannot be listed: %s", dir, strerror(errno));
    while (!found[0] && (e = readdir(d)))
        for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
            size_t n = strlen(e->d_name), m = strlen(other[i]);
            if (n > m && strcmp(e->d_name + n - m, other[i]) == 0)
                snprintf(found, sizeof found, " (it has %.200s)", e->d_name);
        }
    closedir(d);
    return FAIL(ERR_MODEL,
                "%s: no %s and no %s%s: only safetensors folders under these names are read", dir,
                SINGLE, INDEX, found);
}

static int add_tensors(struct weights *w, const struct folder *d)
{
    for (size_t i = 0; i < d->n_files; i++) {
        const struct st_file *f = &d->file[i];
        for (size_t j = 0; j < f->index.n; j++) {
            const struct st_tensor *t = &f->index.tensor[j];
            char hub[WEIGHTS_HUB_ROOM];
            struct weights_entry e = {.name = hub,
                                      .stored = t->name,
                                      .path = f->path,
                                      .n_dims = t->n_dims,
                                      .place = (int)i};
            if (weights_name_to_hub(hub, t->name) == WEIGHTS_NAME_IGNORED)
                continue;
            if (!st_type_is_weight(t->type, &e.dtype))
                return FAIL(ERR_MODEL, "%s: tensor %s is of type %s; weights are F32, BF16 or F16",
                            f->path, t->name, st_type_name(t->type));
            if (t->n_dims > TENSOR_MAX_DIMS)
                return FAIL(ERR_MODEL, "%s: tensor %s has %d dimensions", f->path, t->name,
                            t->n_dims);
            memcpy(e.dim, t->dim, sizeof e.dim);
            e.offset = f->data_at + (int64_t)t->begin;
            TRY(weights_add(w, &e));
        }
    }
    return weights_index_finish(w);
}

static struct digest folder_digest(const struct weights *w, const struct folder *d)
{
    struct digest digest = digest_of(FOLDER.name, strlen(FOLDER.name));

    for (size_t i = 0; i < d->n_files; i++) {
        char line[512];
        int n = snprintf(line, sizeof line, "%.256s %lld\n", base_name(d->file[i].path),
                         (long long)d->file[i].n_bytes);
        digest = digest_chain(digest, line, (size_t)n);
    }
    return weights_index_digest(w, digest);
}

int weights_open_folder(struct weights *w, struct model_config *cfg, const char *dir)
{
    char single[MAX_PATH], index[MAX_PATH];
    struct folder *d;
    struct stat st;

    if (stat(dir, &st) != 0)
        return FAIL(ERR_MODEL, "%s: %s", dir, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return FAIL(ERR_MODEL,
                    "%s: not a folder with config.json and %s, and no converted model", dir,
                    SINGLE);
    if ((size_t)snprintf(single, sizeof single, "%s/%s", dir, SINGLE) >= sizeof single ||
        (size_t)snprintf(index, sizeof index, "%s/%s", dir, INDEX) >= sizeof index)
        return FAIL(ERR_MODEL, "%.200s...: the path is too long", dir);
    TRY(config_read_dir(cfg, dir));

    d = calloc(1, sizeof *d);
    if (!d)
        return FAIL(ERR_NOMEM, "%s: list of files", dir);
    w->source = &FOLDER; /* from here on weights_close releases d */
    w->ctx = d;
    d->file = calloc(MAX_SHARDS, sizeof *d->file);
    d->mapping = calloc(MAX_SHARDS, sizeof *d->mapping);
    if (!d->file || !d->mapping)
        return FAIL(ERR_NOMEM, "%s: list of files", dir);
    if (exists(single))
        TRY(open_shard(d, dir, SINGLE));
    else if (exists(index))
        TRY(open_shards(d, dir, index));
    else
        return fail_no_weights(dir);
    TRY(add_tensors(w, d));
    w->digest = folder_digest(w, d);
    return OK;
}

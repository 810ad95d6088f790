/* The safetensors container: every rule of the format, checked before a byte of data is touched.
 *
 *     8 <= 8 + n <= file size; the header starts with '{'; no key twice; per tensor a known type,
 *     a shape, and data_offsets [begin, end] with product(shape) * bits / 8 = end - begin;
 *     sorted by begin, the tensors tile the data section: no overlap, no hole, no rest.
 *
 * Data need not be aligned to anything: readers must not cast. Files are read with pread, never
 * mapped, so one that is truncated meanwhile is an error and not a SIGBUS. */
#include "weights_safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "sizes.h"
#include "status.h"
#include "weights_impl.h"

/* The format allows headers of 100 MB; one of PaliGemma 2 takes about 130 bytes a tensor, 130 kB in
 * all. The bound keeps a hostile header's parsed form (some twenty times its text) within
 * reason. */
enum { PREFIX_BYTES = 8, MAX_HEADER_BYTES = 16 << 20, MAX_TENSORS = 1 << 16, MAX_DIMS = 16 };

struct st_type {
    const char *name;
    unsigned bits;
    bool is_weight;
    enum dtype dtype; /* when is_weight */
};

static const struct st_type TYPES[] = {
    {"F32", 32, true, DTYPE_F32}, {"BF16", 16, true, DTYPE_BF16},
    {"F16", 16, true, DTYPE_F16}, {"BOOL", 8, false, 0},
    {"U8", 8, false, 0},          {"I8", 8, false, 0},
    {"U16", 16, false, 0},        {"I16", 16, false, 0},
    {"U32", 32, false, 0},        {"I32", 32, false, 0},
    {"U64", 64, false, 0},        {"I64", 64, false, 0},
    {"F64", 64, false, 0},        {"C64", 64, false, 0},
    {"F8_E5M2", 8, false, 0},     {"F8_E4M3", 8, false, 0},
    {"F8_E8M0", 8, false, 0},     {"F8_E4M3FNUZ", 8, false, 0},
    {"F8_E5M2FNUZ", 8, false, 0}, {"F4", 4, false, 0},
    {"F6_E2M3", 6, false, 0},     {"F6_E3M2", 6, false, 0},
};

const char *st_type_name(const struct st_type *t)
{
    return t->name;
}

bool st_type_is_weight(const struct st_type *t, enum dtype *out)
{
    if (t->is_weight)
        *out = t->dtype;
    return t->is_weight;
}

static const struct st_type *type_of(const char *name)
{
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (strcmp(TYPES[i].name, name) == 0)
            return &TYPES[i];
    return NULL;
}

/* Names go into messages, so nothing but printable ASCII without spaces is taken. */
static bool name_is_plain(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > WEIGHTS_MAX_NAME)
        return false;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return true;
}

/* ---- one entry of the header ---- */

static bool is_kind(const struct json *v, enum json_kind kind)
{
    return v && json_kind_of(v) == kind;
}

static int read_type(struct st_tensor *t, const struct json *v, const char *path)
{
    if (!is_kind(v, JSON_KIND_STRING))
        return FAIL(ERR_MODEL, "%s: tensor %s: \"dtype\" is not a string", path, t->name);
    t->type = type_of(json_text(v));
    if (!t->type)
        return FAIL(ERR_MODEL, "%s: tensor %s: unknown dtype \"%.32s\"", path, t->name,
                    json_text(v));
    return OK;
}

/* *n_bits = product of the shape times the type's bits. */
static int read_shape(struct st_tensor *t, size_t *n_bits, const struct json *v, const char *path)
{
    if (!is_kind(v, JSON_KIND_ARRAY) || json_len(v) > MAX_DIMS)
        return FAIL(ERR_MODEL, "%s: tensor %s: \"shape\" is not an array of at most %d sizes", path,
                    t->name, MAX_DIMS);
    t->n_dims = int_from_size(json_len(v));
    *n_bits = t->type->bits;
    for (int i = 0; i < t->n_dims; i++) {
        const struct json *value = json_at(v, (size_t)i);
        size_t size = is_kind(value, JSON_KIND_INT) ? (size_t)json_int(value) : SIZE_MAX;
        if (size > INT64_MAX)
            return FAIL(ERR_MODEL, "%s: tensor %s: \"shape\" holds something else than sizes", path,
                        t->name);
        if (size > 0 && *n_bits > SIZE_MAX / size) /* not size_mul: the fault is the file's */
            return FAIL(ERR_MODEL,
                        "%s: tensor %s: the product of its shape does not fit in 64 bits", path,
                        t->name);
        *n_bits *= size;
        if (i < TENSOR_MAX_DIMS)
            t->dim[i] = size;
    }
    return OK;
}

static int read_offsets(struct st_tensor *t, uint64_t data_bytes, const struct json *v,
                        const char *path)
{
    const struct json *begin = NULL, *end = NULL;

    if (is_kind(v, JSON_KIND_ARRAY) && json_len(v) == 2) {
        begin = json_at(v, 0);
        end = json_at(v, 1);
    }
    if (!is_kind(begin, JSON_KIND_INT) || !is_kind(end, JSON_KIND_INT) || json_int(begin) < 0 ||
        json_int(end) < 0)
        return FAIL(ERR_MODEL, "%s: tensor %s: \"data_offsets\" is not a pair of byte positions",
                    path, t->name);
    t->begin = (uint64_t)json_int(begin);
    t->end = (uint64_t)json_int(end);
    if (t->begin > t->end)
        return FAIL(ERR_MODEL, "%s: tensor %s begins at byte %llu, behind its end %llu", path,
                    t->name, (unsigned long long)t->begin, (unsigned long long)t->end);
    if (t->end > data_bytes)
        return FAIL(
            ERR_MODEL,
            "%s: tensor %s ends at data byte %llu, but the file has %llu (is it truncated?)", path,
            t->name, (unsigned long long)t->end, (unsigned long long)data_bytes);
    return OK;
}

/* t->name is set. */
static int read_entry(struct st_tensor *t, uint64_t data_bytes, const struct json *v,
                      const char *path)
{
    size_t n_bits = 0;

    if (!is_kind(v, JSON_KIND_OBJECT))
        return FAIL(ERR_MODEL, "%s: tensor %s: its entry is not an object", path, t->name);
    TRY(read_type(t, json_get(v, "dtype"), path));
    TRY(read_shape(t, &n_bits, json_get(v, "shape"), path));
    TRY(read_offsets(t, data_bytes, json_get(v, "data_offsets"), path));
    if (n_bits % 8 != 0 || n_bits / 8 != t->end - t->begin)
        return FAIL(ERR_MODEL,
                    "%s: tensor %s: %zu bits of %s by its shape, but %llu bytes by its offsets",
                    path, t->name, n_bits, t->type->name, (unsigned long long)(t->end - t->begin));
    return OK;
}

static int check_metadata(const struct json *v, const char *path)
{
    struct json_iter it = {0};
    const struct json *value;
    const char *key;

    if (!is_kind(v, JSON_KIND_OBJECT))
        return FAIL(ERR_MODEL, "%s: __metadata__ is not an object", path);
    while (json_each(v, &it, &key, &value))
        if (!is_kind(value, JSON_KIND_STRING))
            return FAIL(ERR_MODEL, "%s: __metadata__ holds something else than strings", path);
    return OK;
}

/* ---- the whole header ---- */

static int in_file_order(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) /* empty tensors first */
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The sorted tensors must tile [0, data_bytes). */
static int check_tiling(const struct st_index *x, uint64_t data_bytes, const char *path)
{
    const char *before = "the header";
    uint64_t at = 0;

    for (size_t i = 0; i < x->n; i++) {
        const struct st_tensor *t = &x->tensor[i];
        if (t->begin < at)
            return FAIL(ERR_MODEL, "%s: tensor %s overlaps %s by %llu bytes", path, t->name, before,
                        (unsigned long long)(at - t->begin));
        if (t->begin > at)
            return FAIL(ERR_MODEL, "%s: %llu bytes between %s and tensor %s belong to no tensor",
                        path, (unsigned long long)(t->begin - at), before, t->name);
        at = t->end;
        before = t->name;
    }
    if (at != data_bytes)
        return FAIL(ERR_MODEL, "%s: %llu bytes after %s belong to no tensor", path,
                    (unsigned long long)(data_bytes - at), before);
    return OK;
}

static int read_entries(struct st_index *x, const struct json *root, uint64_t data_bytes,
                        const char *path)
{
    struct json_iter it = {0};
    const struct json *value;
    const char *key;

    while (json_each(root, &it, &key, &value)) {
        struct st_tensor *t = &x->tensor[x->n];
        if (strcmp(key, "__metadata__") == 0) {
            TRY(check_metadata(value, path));
            continue;
        }
        if (!name_is_plain(key))
            return FAIL(ERR_MODEL,
                        "%s: the name of tensor number %zu is not 1 to %d printable characters",
                        path, x->n + 1, WEIGHTS_MAX_NAME);
        t->name = strdup(key);
        if (!t->name)
            return FAIL(ERR_NOMEM, "%s: name of tensor %s", path, key);
        x->n++; /* from here on st_index_release frees the name */
        TRY(read_entry(t, data_bytes, value, path));
    }
    return OK;
}

int st_index_parse(struct st_index *out, const uint8_t *header, size_t n_bytes, uint64_t data_bytes,
                   const char *path)
{
    struct st_index x = {NULL, 0};
    struct json_doc *doc;
    int rc;

    if (n_bytes == 0 || header[0] != '{')
        return FAIL(ERR_MODEL, "%s: the header is not JSON: this is no safetensors file", path);
    TRY(json_parse(&doc, (const char *)header, n_bytes, path, ERR_MODEL));
    if (json_len(json_root(doc)) > MAX_TENSORS) {
        rc = FAIL(ERR_MODEL, "%s: more than %d tensors", path, MAX_TENSORS);
        goto free_doc;
    }
    x.tensor = calloc(json_len(json_root(doc)) + 1,
                      sizeof *x.tensor); /* + 1: never a request for nothing */
    if (!x.tensor) {
        rc = FAIL(ERR_NOMEM, "%s: index", path);
        goto free_doc;
    }
    TRY_GOTO(read_entries(&x, json_root(doc), data_bytes, path), free_x);
    qsort(x.tensor, x.n, sizeof *x.tensor, in_file_order);
    TRY_GOTO(check_tiling(&x, data_bytes, path), free_x);
    json_free(doc);
    *out = x;
    return OK;
free_x:
    st_index_release(&x);
free_doc:
    json_free(doc);
    return rc;
}

void st_index_release(struct st_index *x)
{
    for (size_t i = 0; i < x->n; i++)
        free(x->tensor[i].name);
    free(x->tensor);
    *x = (struct st_index){NULL, 0};
}

/* ---- the file ---- */

/* The header's length from the first 8 bytes of a file of n_file bytes. */
static int header_bytes(size_t *out, const uint8_t prefix[PREFIX_BYTES], uint64_t n_file,
                        const char *path)
{
    uint64_t n = 0;

    for (int i = PREFIX_BYTES - 1; i >= 0; i--)
        n = n << 8 | prefix[i];
    if (n > MAX_HEADER_BYTES)
        return FAIL(ERR_MODEL,
                    "%s: a header of %llu bytes (at most %d are read): this is no safetensors file",
                    path, (unsigned long long)n, MAX_HEADER_BYTES);
    if (n > n_file - PREFIX_BYTES)
        return FAIL(ERR_MODEL,
                    "%s: the header has %llu bytes, but only %llu follow (is the file truncated?)",
                    path, (unsigned long long)n, (unsigned long long)(n_file - PREFIX_BYTES));
    *out = (size_t)n;
    return OK;
}

static int open_regular(struct st_file *f)
{
    struct stat st;

    /* O_NONBLOCK: opening a FIFO must not wait for a writer. */
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0 && errno == ENOENT)
        return FAIL(ERR_MODEL, "%s: missing (or a broken link)", f->path);
    if (f->fd < 0)
        return FAIL(ERR_IO, "%s: %s", f->path, strerror(errno));
    if (fstat(f->fd, &st) != 0)
        return FAIL(ERR_IO, "%s: %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return FAIL(ERR_MODEL, "%s: not a regular file", f->path);
    if (st.st_size < PREFIX_BYTES)
        return FAIL(ERR_MODEL,
                    "%s: %lld bytes: too short for a safetensors file (is it truncated?)", f->path,
                    (long long)st.st_size);
    f->n_bytes = st.st_size;
    return OK;
}

static int read_header(struct st_file *f)
{
    uint8_t prefix[PREFIX_BYTES], *header;
    size_t n;
    int rc;

    TRY(st_file_read(f, 0, prefix, PREFIX_BYTES));
    TRY(header_bytes(&n, prefix, (uint64_t)f->n_bytes, f->path));
    f->data_at = PREFIX_BYTES + (int64_t)n;
    header = malloc(n + 1);
    if (!header)
        return FAIL(ERR_NOMEM, "%s: header of %zu bytes", f->path, n);
    TRY_GOTO(st_file_read(f, PREFIX_BYTES, header, n), free_header);
    rc = st_index_parse(&f->index, header, n, (uint64_t)(f->n_bytes - f->data_at), f->path);
free_header:
    free(header);
    return rc;
}

int st_file_open(struct st_file *out, const char *path)
{
    struct st_file f = {.path = strdup(path), .fd = -1};
    int rc;

    if (!f.path)
        return FAIL(ERR_NOMEM, "%s: file name", path);
    TRY_GOTO(open_regular(&f), close_f);
    TRY_GOTO(read_header(&f), close_f);
    posix_fadvise(f.fd, 0, 0, POSIX_FADV_SEQUENTIAL); /* advice only: it may fail */
    *out = f;
    return OK;
close_f:
    st_file_close(&f);
    return rc;
}

void st_file_close(struct st_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    st_index_release(&f->index);
    free(f->path);
    f->path = NULL;
}

int st_bytes_read(int fd, const char *path, int64_t at, void *out, size_t n_bytes)
{
    enum { AT_ONCE = 1 << 30 }; /* one call moves less than 2 GiB */
    char *to = out;

    while (n_bytes > 0) {
        ssize_t n = pread(fd, to, n_bytes < AT_ONCE ? n_bytes : AT_ONCE, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return FAIL(ERR_IO, "%s: reading at byte %lld: %s", path, (long long)at,
                        strerror(errno));
        if (n == 0)
            return FAIL(ERR_MODEL, "%s: ends at byte %lld: it became shorter while in use", path,
                        (long long)at);
        to += n;
        at += n;
        n_bytes -= (size_t)n;
    }
    return OK;
}

int st_file_read(const struct st_file *f, int64_t at, void *out, size_t n_bytes)
{
    return st_bytes_read(f->fd, f->path, at, out, n_bytes);
}

void st_file_prefetch(const struct st_file *f, int64_t at, size_t n_bytes)
{
    posix_fadvise(f->fd, (off_t)at, (off_t)n_bytes,
                  POSIX_FADV_WILLNEED); /* advice only: it may fail */
}

int weights_check_safetensors(const uint8_t *bytes, size_t n_bytes, const char *name)
{
    struct st_index x;
    size_t n;

    if (n_bytes < PREFIX_BYTES)
        return FAIL(ERR_MODEL, "%s: %zu bytes: too short for a safetensors file (is it truncated?)",
                    name, n_bytes);
    TRY(header_bytes(&n, bytes, n_bytes, name));
    TRY(st_index_parse(&x, bytes + PREFIX_BYTES, n, n_bytes - PREFIX_BYTES - n, name));
    st_index_release(&x);
    return OK;
}

// RANKS: 1
/* Dumps against golden data where there is no Python: two HDF5 files, element by element.
 *
 *     test_golden_bounds BOUNDS.h5 DUMP.h5     tests/golden/golden_bounds.py writes BOUNDS
 *     test_golden_bounds --same A.h5 B.h5      every dataset has the same bits
 *     test_golden_bounds                       tests of these two
 *
 * /CASE/NAME of BOUNDS holds what is wanted. Numbers: the dump's may be off by the attribute
 * `bound`, where NaN is wanted by anything. Tokens: equal, where -1 is wanted anything. Datasets
 * that hold some positions of a prompt only name them in /CASE/positions. A dump may have more
 * steps. Exit status 1 when something is out of bounds, missing, or nothing was compared. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "h5.h"
#include "status.h"

enum { MAX_DIMS = 8, MAX_PATH = 256, MAX_POSITIONS = 4096 };

struct verdict {
    struct h5 *want, *got;
    bool same; /* bits, not bounds */
    char group[MAX_PATH];
    int32_t position[MAX_POSITIONS];
    size_t n_positions;
    size_t n_sets, n_bad;
};

/* A dataset in memory; either f or i. */
struct array {
    int n_dims;
    size_t dim[MAX_DIMS], n;
    float *f;
    int32_t *i;
};

static int read_array(struct array *a, struct h5 *h, const char *path, bool is_int)
{
    void *data;

    *a = (struct array){.n = 1};
    TRY(h5_shape(h, path, &a->n_dims, a->dim));
    for (int k = 0; k < a->n_dims; k++)
        a->n *= a->dim[k];
    data = calloc(a->n + 1, sizeof(float));
    if (!data)
        return FAIL(ERR_NOMEM, "%s", path);
    a->f = is_int ? NULL : data;
    a->i = is_int ? data : NULL;
    return h5_read(h, path, is_int ? DTYPE_I32 : DTYPE_F32, data, a->n);
}

static void free_array(struct array *a)
{
    free(a->f);
    free(a->i);
}

/* ---- where an element of what is wanted lies in the dump ---- */

/* The dimension that is a choice of positions; -1: none. False when the shapes do not go
 * together. */
static bool match_shapes(const struct verdict *v, const struct array *want, const struct array *got,
                         int *picked)
{
    *picked = -1;
    if (want->n_dims != got->n_dims)
        return false;
    for (int k = 0; k < want->n_dims; k++) {
        if (want->dim[k] == got->dim[k])
            continue;
        if (v->same)
            return false;
        if (k == want->n_dims - 2 && k > 0 && want->dim[k] == v->n_positions)
            *picked = k;
        else if (k != 0 || got->dim[k] < want->dim[k])
            return false;
    }
    for (size_t i = 0; *picked >= 0 && i < v->n_positions; i++)
        if (v->position[i] < 0 || (size_t)v->position[i] >= got->dim[*picked])
            return false;
    return true;
}

static size_t place_of(const struct verdict *v, const struct array *want, const struct array *got,
                       int picked, size_t i)
{
    size_t index[MAX_DIMS], at = 0;

    for (int k = want->n_dims - 1; k >= 0; k--) {
        index[k] = i % want->dim[k];
        i /= want->dim[k];
    }
    for (int k = 0; k < want->n_dims; k++)
        at = at * got->dim[k] + (k == picked ? (size_t)v->position[index[k]] : index[k]);
    return at;
}

/* ---- one dataset ---- */

static double bound_of(struct h5 *h, const char *path)
{
    char *text = NULL;
    double bound = -1.0;

    if (h5_read_text_attr(h, path, "bound", &text) == OK && text)
        bound = atof(text);
    free(text);
    return bound;
}

static bool is_off(const struct verdict *v, const struct array *want, const struct array *got,
                   size_t i, size_t at, double bound)
{
    if (want->i)
        return want->i[i] != got->i[at] && (v->same || want->i[i] >= 0);
    if (v->same)
        return memcmp(&want->f[i], &got->f[at], sizeof *want->f) != 0;
    return !isnan(want->f[i]) && !(fabs((double)want->f[i] - (double)got->f[at]) <= bound);
}

static size_t count_off(const struct verdict *v, const struct array *want, const struct array *got,
                        int picked, double bound, const char *path)
{
    double worst = 0.0;
    size_t n_off = 0;

    for (size_t i = 0; i < want->n; i++) {
        const size_t at = place_of(v, want, got, picked, i);

        n_off += is_off(v, want, got, i, at, bound);
        if (want->f && !isnan(want->f[i]))
            worst = fmax(worst, fabs((double)want->f[i] - (double)got->f[at]));
    }
    if (n_off)
        printf("FAIL %s: %zu of %zu; off by at most %.3g, bound %.3g\n", path, n_off, want->n,
               worst, v->same ? 0.0 : bound);
    return n_off;
}

static int compare_set(struct verdict *v, const char *path)
{
    const bool is_int = h5_kind_of(v->want, path) != H5_KIND_REALS;
    struct array want = {0}, got = {0};
    int rc, picked;

    v->n_sets++;
    if (!h5_exists(v->got, path)) {
        printf("FAIL %s: not in the dump\n", path);
        v->n_bad++;
        return OK;
    }
    rc = read_array(&want, v->want, path, is_int);
    if (rc == OK)
        rc = read_array(&got, v->got, path, is_int);
    if (rc == OK && !match_shapes(v, &want, &got, &picked)) {
        printf("FAIL %s: another shape\n", path);
        v->n_bad++;
    } else if (rc == OK) {
        v->n_bad += count_off(v, &want, &got, picked, bound_of(v->want, path), path) > 0;
    }
    free_array(&want);
    free_array(&got);
    return rc;
}

/* ---- both files ---- */

static int each_set(void *context, const char *name)
{
    struct verdict *v = context;
    char path[2 * MAX_PATH];

    if (!v->same && (strcmp(name, "positions") == 0 || strcmp(name, "forced_tokens") == 0))
        return OK;
    snprintf(path, sizeof path, "%s/%s", v->group, name);
    return compare_set(v, path);
}

static int each_case(void *context, const char *name)
{
    struct verdict *v = context;
    char path[2 * MAX_PATH];
    size_t dim[MAX_DIMS];
    int n_dims;

    snprintf(v->group, sizeof v->group, "/%s", name);
    snprintf(path, sizeof path, "%s/positions", v->group);
    v->n_positions = 0;
    if (!v->same && h5_exists(v->want, path)) {
        TRY(h5_shape(v->want, path, &n_dims, dim));
        if (n_dims != 1 || dim[0] > MAX_POSITIONS)
            return FAIL(ERR_INPUT, "%s: not a list of at most %d positions", path, MAX_POSITIONS);
        v->n_positions = dim[0];
        TRY(h5_read(v->want, path, DTYPE_I32, v->position, dim[0]));
    }
    return h5_list(v->want, v->group, each_set, v);
}

static int compare_files(struct verdict *v, const char *want, const char *got, bool same)
{
    int rc;

    *v = (struct verdict){.same = same};
    TRY(h5_open(&v->want, want));
    rc = h5_open(&v->got, got);
    if (rc == OK)
        rc = h5_list(v->want, "/", each_case, v);
    h5_close(v->got);
    h5_close(v->want);
    return rc;
}

static int command(int argc, char **argv)
{
    const bool same = argc == 4 && strcmp(argv[1], "--same") == 0;
    static struct verdict v;

    if (argc != 3 && !same) {
        fprintf(stderr, "usage: %s [--same] WANTED.h5 DUMP.h5\n", argv[0]);
        return 64;
    }
    if (compare_files(&v, argv[argc - 2], argv[argc - 1], same) != OK)
        return 1;
    printf("%zu datasets compared, %zu failure(s)\n", v.n_sets, v.n_bad);
    return v.n_bad > 0 || v.n_sets == 0;
}

/* ---- tests of the above ---- */

static struct verdict verdict;

static void write_set(struct h5 *h, const char *path, const float *x, size_t rows, size_t cols,
                      const char *bound)
{
    const size_t dim[] = {1, rows, cols};

    assert_int_equal(h5_write(h, path, DTYPE_F32, 3, dim, x), OK);
    if (bound)
        assert_int_equal(h5_write_text_attr(h, path, "bound", bound), OK);
}

static void write_tokens(struct h5 *h, const int32_t *token, size_t n)
{
    const size_t dim[] = {1, n};

    assert_int_equal(h5_write(h, "/a/greedy_tokens", DTYPE_I32, 2, dim, token), OK);
}

/* A case with rows 0 and 2 of three, and tokens of which the second may be any. */
static void write_wanted(const char *path)
{
    static const float x[] = {1.0f, 2.0f, NAN, -4.0f};
    static const int32_t position[] = {0, 2}, token[] = {7, -1, 9};
    const size_t n = 2;
    struct h5 *h;

    assert_int_equal(h5_create(&h, path), OK);
    assert_int_equal(h5_group(h, "/a"), OK);
    write_set(h, "/a/embeds", x, 2, 2, "0.25");
    assert_int_equal(h5_write(h, "/a/positions", DTYPE_I32, 1, &n, position), OK);
    write_tokens(h, token, 3);
    assert_int_equal(h5_close(h), OK);
}

static void write_dump(const char *path, const float *x, size_t rows, const int32_t *token)
{
    struct h5 *h;

    assert_int_equal(h5_create(&h, path), OK);
    assert_int_equal(h5_group(h, "/a"), OK);
    write_set(h, "/a/embeds", x, rows, 2, NULL);
    if (token)
        write_tokens(h, token, 3);
    assert_int_equal(h5_close(h), OK);
}

static size_t failures(const char *want, const char *got, bool same)
{
    assert_int_equal(compare_files(&verdict, want, got, same), OK);
    return verdict.n_bad;
}

static void what_is_off_is_found(void **state)
{
    static const int32_t good[] = {7, 5, 9}, bad[] = {7, 5, 8};
    static const char want[] = "test_golden_want.h5.tmp", got[] = "test_golden_got.h5.tmp";
    float x[] = {1.25f, 1.75f, 90.0f, 91.0f, 92.0f, -4.0f};

    (void)state;
    write_wanted(want);
    write_dump(got, x, 3, good);
    assert_int_equal(failures(want, got, false), 0);
    assert_int_equal(verdict.n_sets, 2);
    write_dump(got, x, 3, bad);
    assert_int_equal(failures(want, got, false), 1);
    write_dump(got, x, 3, NULL); /* missing */
    assert_int_equal(failures(want, got, false), 1);
    write_dump(got, x, 1, good); /* another shape */
    assert_int_equal(failures(want, got, false), 1);
    x[5] = -4.2501f;
    write_dump(got, x, 3, good);
    assert_int_equal(failures(want, got, false), 1);
    x[5] = NAN;
    write_dump(got, x, 3, good);
    assert_int_equal(failures(want, got, false), 1);
    unlink(want);
    unlink(got);
}

static void same_means_every_bit(void **state)
{
    static const int32_t token[] = {1, 2, 3};
    static const char a[] = "test_golden_a.h5.tmp", b[] = "test_golden_b.h5.tmp";
    float x[] = {1.0f, 0.0f, 3.0f, 4.0f};

    (void)state;
    write_dump(a, x, 2, token);
    write_dump(b, x, 2, token);
    assert_int_equal(failures(a, b, true), 0);
    x[1] = -0.0f;
    write_dump(b, x, 2, token);
    assert_int_equal(failures(a, b, true), 1);
    unlink(a);
    unlink(b);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_off_is_found),
        cmocka_unit_test(same_means_every_bit),
    };

    log_init(LOG_ERROR);
    return argc > 1 ? command(argc, argv) : cmocka_run_group_tests(tests, NULL, NULL);
}

// RANKS: 1
/* Columns: rows appended in any portions are read back, and the file does not tell the portions. */
#include "h5.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "status.h"
#include "whole_file.h"

enum { N_ROWS = 100003 }; /* three chunks of I64 and a part of one */

struct scratch {
    char dir[64], path[2][96];
};

static int make_scratch(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);

    if (!s)
        return -1;
    strcpy(s->dir, "/tmp/paligrid_h5_XXXXXX");
    if (!mkdtemp(s->dir))
        return -1;
    snprintf(s->path[0], sizeof s->path[0], "%s/a.h5", s->dir);
    snprintf(s->path[1], sizeof s->path[1], "%s/b.h5", s->dir);
    *state = s;
    return 0;
}

static int drop_scratch(void **state)
{
    struct scratch *s = *state;

    unlink(s->path[0]);
    unlink(s->path[1]);
    rmdir(s->dir);
    free(s);
    return 0;
}

static int64_t value(size_t i)
{
    return (int64_t)(i * i % 1009) - 500;
}

/* N_ROWS numbers, N_ROWS / 10 rows of two floats, and a column without rows. */
static void write_columns(const char *path, size_t portion)
{
    int64_t *number = calloc(N_ROWS, sizeof *number);
    struct h5_column *a, *b, *empty;
    struct h5 *h;

    assert_non_null(number);
    for (size_t i = 0; i < N_ROWS; i++)
        number[i] = value(i);
    assert_int_equal(h5_create(&h, path), OK);
    assert_int_equal(h5_column_create(&a, h, "/deep/numbers", H5_NUMBER_I64, 0), OK);
    assert_int_equal(h5_column_create(&b, h, "/pairs", H5_NUMBER_F32, 2), OK);
    assert_int_equal(h5_column_create(&empty, h, "/empty", H5_NUMBER_U64, 0), OK);
    for (size_t i = 0; i < N_ROWS; i += portion) {
        const size_t n = N_ROWS - i < portion ? N_ROWS - i : portion;

        assert_int_equal(h5_column_append(a, number + i, n), OK);
    }
    for (size_t i = 0; i < N_ROWS / 10; i++)
        assert_int_equal(h5_column_append(b, (float[2]){(float)i, -(float)i}, 1), OK);
    assert_int_equal(h5_column_close(a), OK);
    assert_int_equal(h5_column_close(b), OK);
    assert_int_equal(h5_column_close(empty), OK);
    assert_int_equal(h5_close(h), OK);
    free(number);
}

static void test_rows_are_read_back(void **state)
{
    const struct scratch *s = *state;
    int64_t *number = calloc(N_ROWS, sizeof *number);
    float *pair = calloc(N_ROWS / 10, 2 * sizeof *pair);
    size_t dim[8] = {0};
    struct h5 *h;
    int n_dims;

    write_columns(s->path[0], 777);
    assert_int_equal(h5_open(&h, s->path[0]), OK);
    assert_int_equal(h5_shape(h, "/deep/numbers", &n_dims, dim), OK);
    assert_int_equal(n_dims, 1);
    assert_int_equal(h5_read(h, "/deep/numbers", DTYPE_I64, number, N_ROWS), OK);
    for (size_t i = 0; i < N_ROWS; i++)
        assert_int_equal(number[i], value(i));
    assert_int_equal(h5_shape(h, "/pairs", &n_dims, dim), OK);
    assert_int_equal(n_dims * 10 + (int)dim[1], 22);
    assert_int_equal(h5_read(h, "/pairs", DTYPE_F32, pair, N_ROWS / 10 * 2), OK);
    assert_true(pair[2 * 4999] == 4999.0f && pair[2 * 4999 + 1] == -4999.0f);
    assert_int_equal(h5_shape(h, "/empty", &n_dims, dim), OK);
    assert_int_equal(dim[0], 0);
    assert_int_equal(h5_close(h), OK);
    free(pair);
    free(number);
}

static void test_portions_do_not_matter(void **state)
{
    const struct scratch *s = *state;
    size_t n[2];
    char *bytes[2];

    write_columns(s->path[0], 1);
    write_columns(s->path[1], N_ROWS);
    for (int i = 0; i < 2; i++)
        bytes[i] = whole_file_read(s->path[i], &n[i]);
    assert_int_equal(n[0], n[1]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    assert_true(n[0] < N_ROWS * sizeof(int64_t) / 2); /* and they are compressed */
    free(bytes[0]);
    free(bytes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_are_read_back, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(test_portions_do_not_matter, make_scratch, drop_scratch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

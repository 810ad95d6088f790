// RANKS: 1
/* Matrices of bytes in parts: what is written in pieces of any shape is read in pieces of any
 * other, from both layouts; a contiguous one lies where h5_offset says. */
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

enum { ROWS = 3001, COLS = 1003, CHUNK = 96 };

static char dir[] = "/tmp/paligrid_slab_XXXXXX", path[64];

static uint8_t value(size_t i, size_t j)
{
    return (uint8_t)((i * 31 + j * 7 + i / 97) ^ (j >> 3));
}

static void write_matrix(struct h5 *h, const char *name, size_t chunk)
{
    uint8_t *rows = malloc((size_t)500 * COLS);

    assert_non_null(rows);
    assert_int_equal(h5_create_matrix(h, name, ROWS, COLS, chunk), OK);
    for (size_t i = 0; i < ROWS; i += 500) {
        const struct h5_slab s = {i, ROWS - i < 500 ? ROWS - i : 500, 0, COLS};

        for (size_t r = 0; r < s.n_rows; r++)
            for (size_t c = 0; c < COLS; c++)
                rows[r * COLS + c] = value(i + r, c);
        assert_int_equal(h5_write_slab(h, name, &s, rows), OK);
    }
    free(rows);
}

static int make_file(void **state)
{
    struct h5 *h = NULL;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/m.h5", dir);
    if (h5_create(&h, path) != OK)
        return -1;
    write_matrix(h, "/w/whole/data", 0);
    write_matrix(h, "/w/cut/data", CHUNK);
    return h5_close(h) == OK ? 0 : -1;
}

static int drop_file(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void test_any_slab_reads_back(void **state)
{
    static const struct h5_slab slab[] = {
        {0, ROWS, 0, COLS}, {17, 1, 0, COLS},     {0, ROWS, 2 * CHUNK, CHUNK}, {2999, 2, 1000, 3},
        {5, 900, 95, 2},    {ROWS - 1, 1, 0, 1}, {0, ROWS, 960, 43},
    };
    static const char *const name[] = {"/w/whole/data", "/w/cut/data"};
    uint8_t *data = malloc((size_t)ROWS * COLS);
    struct h5 *h = NULL;

    (void)state;
    assert_non_null(data);
    assert_int_equal(h5_open(&h, path), OK);
    for (size_t k = 0; k < 2; k++)
        for (size_t n = 0; n < sizeof slab / sizeof *slab; n++) {
            const struct h5_slab *s = &slab[n];

            assert_int_equal(h5_read_slab(h, name[k], s, data), OK);
            for (size_t i = 0; i < s->n_rows; i++)
                for (size_t j = 0; j < s->n_cols; j++)
                    assert_int_equal(data[i * s->n_cols + j], value(s->row0 + i, s->col0 + j));
        }
    assert_int_equal(h5_close(h), OK);
    free(data);
}

static void test_a_contiguous_matrix_lies_where_it_says(void **state)
{
    uint8_t row[COLS];
    struct h5 *h = NULL;
    int64_t at = 0;
    FILE *f;

    (void)state;
    assert_int_equal(h5_open(&h, path), OK);
    assert_int_equal(h5_offset(h, "/w/cut/data", &at), OK);
    assert_int_equal(at, -1);
    assert_int_equal(h5_offset(h, "/w/whole/data", &at), OK);
    assert_true(at > 0);
    assert_int_equal(h5_close(h), OK);
    f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at + 123L * COLS, SEEK_SET), 0);
    assert_int_equal(fread(row, 1, COLS, f), COLS);
    fclose(f);
    for (size_t j = 0; j < COLS; j++)
        assert_int_equal(row[j], value(123, j));
}

static void test_wrong_slabs_are_named(void **state)
{
    static const struct h5_slab wrong[] = {
        {0, ROWS + 1, 0, 1}, {ROWS, 1, 0, 1}, {0, 1, COLS - 1, 2}, {SIZE_MAX, 2, 0, 1}};
    struct h5 *h = NULL;
    uint8_t out[4];

    (void)state;
    assert_int_equal(h5_open(&h, path), OK);
    for (size_t n = 0; n < sizeof wrong / sizeof *wrong; n++) {
        assert_int_equal(h5_read_slab(h, "/w/cut/data", &wrong[n], out), ERR_INPUT);
        assert_non_null(strstr(log_last_error(), "/w/cut/data"));
    }
    assert_int_equal(h5_read_slab(h, "/w/none", &wrong[0], out), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), "/w/none"));
    h5_close(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_slab_reads_back),
        cmocka_unit_test(test_a_contiguous_matrix_lies_where_it_says),
        cmocka_unit_test(test_wrong_slabs_are_named),
    };

    log_init(LOG_ERROR);
    return cmocka_run_group_tests(tests, make_file, drop_file);
}

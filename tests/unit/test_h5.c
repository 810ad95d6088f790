// RANKS: 1
/* The h5 room: what is written is read back, wrong files are refused with their name, and a
 * file with any byte damaged gives an error or numbers, never a crash or a hang. */
#include "h5.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"
#include "whole_file.h"

struct scratch {
    char dir[64], path[96], tmp_path[112];
};

static int make_scratch(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);

    if (!s)
        return -1;
    strcpy(s->dir, "/tmp/paligrid_h5_XXXXXX");
    if (!mkdtemp(s->dir))
        return -1;
    snprintf(s->path, sizeof s->path, "%s/a.h5", s->dir);
    snprintf(s->tmp_path, sizeof s->tmp_path, "%s.tmp", s->path);
    *state = s;
    return 0;
}

static int drop_scratch(void **state)
{
    struct scratch *s = *state;

    unlink(s->path);
    unlink(s->tmp_path);
    rmdir(s->dir);
    free(s);
    return 0;
}

enum { BIG_ROWS = 700, BIG_COLS = 1000 };

static float big_value(size_t i)
{
    return (float)(i % 977) / 16.0f - 3.0f;
}

/* Every kind of thing a dump holds: small and large arrays, 0 and 4 dimensions, attributes. */
static void write_sample(const char *path, size_t n_big)
{
    const float small[6] = {0.0f, -1.5f, 3.25f, 1e-30f, -1e30f, 7.0f};
    const int32_t ids[4] = {0, 257151, -1, 2147483647};
    float *big = malloc(n_big * sizeof *big);
    struct h5 *h;

    assert_non_null(big);
    for (size_t i = 0; i < n_big; i++)
        big[i] = big_value(i);
    assert_int_equal(h5_create(&h, path), OK);
    assert_int_equal(h5_group(h, "/one"), OK);
    assert_int_equal(h5_group(h, "/one"), OK);
    assert_int_equal(h5_write(h, "/one/small", DTYPE_F32, 4, (size_t[]){1, 2, 1, 3}, small), OK);
    assert_int_equal(h5_write(h, "/two/deep/ids", DTYPE_I32, 2, (size_t[]){2, 2}, ids), OK);
    assert_int_equal(h5_write(h, "/one/empty", DTYPE_F32, 2, (size_t[]){0, 5}, NULL), OK);
    assert_int_equal(h5_write(h, "/big", DTYPE_F32, 2, (size_t[]){n_big / 100, 100}, big), OK);
    assert_int_equal(h5_write_text_attr(h, "/one", "prompts", "[\"answer ja 何色\"]"), OK);
    assert_int_equal(h5_write_text_attr(h, "/", "window", "none"), OK);
    assert_int_equal(h5_write_int_attr(h, "/", "count", -12), OK);
    assert_int_equal(h5_close(h), OK);
    free(big);
}

static void test_written_is_read_back(void **state)
{
    struct scratch *s = *state;
    const size_t n_big = (size_t)BIG_ROWS * BIG_COLS;
    float small[6], *big = malloc(n_big * sizeof *big);
    int32_t ids[4];
    int64_t wide[4];
    char *text = NULL;
    size_t dim[8];
    struct h5 *h;
    int n_dims;

    assert_non_null(big);
    write_sample(s->path, n_big);
    assert_int_equal(h5_open(&h, s->path), OK);
    assert_int_equal(h5_shape(h, "/one/small", &n_dims, dim), OK);
    assert_int_equal(n_dims, 4);
    assert_int_equal(dim[1] * 10 + dim[3], 23);
    assert_int_equal(h5_read(h, "/one/small", DTYPE_F32, small, 6), OK);
    assert_true(small[1] == -1.5f && small[3] == 1e-30f && small[4] == -1e30f);
    assert_int_equal(h5_read(h, "/two/deep/ids", DTYPE_I32, ids, 4), OK);
    assert_int_equal(ids[1], 257151);
    assert_int_equal(h5_read(h, "/two/deep/ids", DTYPE_I64, wide, 4), OK);
    assert_int_equal(wide[3], 2147483647);
    assert_int_equal(h5_shape(h, "/one/empty", &n_dims, dim), OK);
    assert_int_equal(dim[0], 0);
    assert_int_equal(h5_read(h, "/one/empty", DTYPE_F32, small, 0), OK);
    assert_int_equal(h5_read(h, "/big", DTYPE_F32, big, n_big), OK);
    for (size_t i = 0; i < n_big; i++)
        assert_true(big[i] == big_value(i));
    assert_int_equal(h5_read_text_attr(h, "/one", "prompts", &text), OK);
    assert_string_equal(text, "[\"answer ja 何色\"]");
    free(text);
    assert_int_equal(h5_read_text_attr(h, "/", "window", &text), OK);
    assert_string_equal(text, "none");
    free(text);
    assert_int_equal(h5_read_text_attr(h, "/one", "absent", &text), OK);
    assert_null(text);
    assert_int_equal(h5_close(h), OK);
    free(big);
}

static void test_large_arrays_are_compressed_and_files_reproducible(void **state)
{
    struct scratch *s = *state;
    char *first, *second;
    size_t n_first, n_second;

    write_sample(s->path, (size_t)BIG_ROWS * BIG_COLS);
    first = whole_file_read(s->path, &n_first);
    assert_true(n_first < (size_t)BIG_ROWS * BIG_COLS * sizeof(float) / 2);
    sleep(1); /* HDF5 stamps objects with seconds unless told not to */
    write_sample(s->path, (size_t)BIG_ROWS * BIG_COLS);
    second = whole_file_read(s->path, &n_second);
    assert_int_equal(n_first, n_second);
    assert_memory_equal(first, second, n_first);
    free(first);
    free(second);
}

static void test_only_whole_files_get_their_name(void **state)
{
    struct scratch *s = *state;
    struct h5 *h;

    assert_int_equal(h5_create(&h, s->path), OK);
    assert_int_equal(access(s->path, F_OK), -1);
    assert_int_equal(access(s->tmp_path, F_OK), 0);
    h5_discard(h);
    assert_int_equal(access(s->tmp_path, F_OK), -1);
    assert_int_equal(access(s->path, F_OK), -1);
    assert_int_equal(h5_create(&h, s->path), OK);
    assert_int_equal(h5_close(h), OK);
    assert_int_equal(access(s->path, F_OK), 0);
    assert_int_equal(access(s->tmp_path, F_OK), -1);
    assert_int_equal(h5_close(NULL), OK);
    h5_discard(NULL);
}

static void expect_open_fails(const char *path, const char *word)
{
    struct h5 *h = NULL;

    assert_int_equal(h5_open(&h, path), ERR_INPUT);
    assert_null(h);
    assert_non_null(strstr(log_last_error(), path));
    if (!strstr(log_last_error(), word))
        fail_msg("'%s' does not say '%s'", log_last_error(), word);
}

static void test_files_that_cannot_be_opened(void **state)
{
    struct scratch *s = *state;
    struct h5 *h = NULL;
    uint8_t *bytes;
    size_t n;

    expect_open_fails(s->path, "No such file");
    expect_open_fails(s->dir, "not a regular file");
    assert_int_equal(mkfifo(s->path, 0600), 0);
    expect_open_fails(s->path, "not a regular file"); /* and does not wait for a writer */
    unlink(s->path);
    whole_file_write(s->path, "", 0);
    expect_open_fails(s->path, "HDF5");
    whole_file_write(s->path, "not an HDF5 file at all, but text", 33);
    expect_open_fails(s->path, "file signature not found");
    write_sample(s->path, 10000);
    bytes = (uint8_t *)whole_file_read(s->path, &n);
    whole_file_write(s->path, bytes, n / 2);
    expect_open_fails(s->path, "truncated file");
    free(bytes);
    assert_int_equal(h5_create(&h, "/nonexistent/folder/x.h5"), ERR_IO);
    assert_null(h);
    assert_non_null(strstr(log_last_error(), "/nonexistent/folder/x.h5"));
}

static void expect_read_fails(struct h5 *h, const char *path, enum dtype t, size_t n,
                              const char *word)
{
    float data[64];

    assert_true(n <= 8);
    assert_int_equal(h5_read(h, path, t, data, n), ERR_INPUT);
    assert_non_null(strstr(log_last_error(), path));
    if (!strstr(log_last_error(), word))
        fail_msg("'%s' does not say '%s'", log_last_error(), word);
}

static void test_wrong_requests_name_the_dataset(void **state)
{
    struct scratch *s = *state;
    char *text = NULL;
    size_t dim[8];
    struct h5 *h;
    int n_dims;

    write_sample(s->path, 10000);
    assert_int_equal(h5_open(&h, s->path), OK);
    assert_true(h5_exists(h, "/one/small"));
    assert_false(h5_exists(h, "/one/absent"));
    assert_false(h5_exists(h, "/absent/small"));
    assert_false(h5_exists(h, ""));
    expect_read_fails(h, "/one/absent", DTYPE_F32, 1, "not in the file");
    expect_read_fails(h, "/one", DTYPE_F32, 1, "a group");
    expect_read_fails(h, "/one/small", DTYPE_F32, 5, "6 elements, expected 5");
    assert_int_equal(h5_shape(h, "/two", &n_dims, dim), ERR_INPUT);
    assert_int_equal(h5_shape(h, "/three/x", &n_dims, dim), ERR_INPUT);
    assert_int_equal(h5_read_text_attr(h, "/", "count", &text), ERR_INPUT); /* an integer */
    assert_non_null(strstr(log_last_error(), "count"));
    assert_null(text);
    assert_int_equal(h5_close(h), OK);
}

/* Reads all there is, as a user of the room would; only the absence of a crash counts. */
static int read_everything(const char *path)
{
    const char *const set[] = {"/one/small", "/two/deep/ids", "/big", "/one/empty"};
    static float data[1 << 14];
    char *text = NULL;
    struct h5 *h;
    int n_bad = 0;

    if (h5_open(&h, path) != OK)
        return 1;
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++) {
        size_t dim[8], n = 1;
        int n_dims;

        if (h5_shape(h, set[i], &n_dims, dim) != OK) {
            n_bad++;
            continue;
        }
        for (int k = 0; k < n_dims; k++)
            n = dim[k] <= 1 << 14 ? n * dim[k] : SIZE_MAX / 2;
        if (n <= sizeof data / sizeof data[0])
            n_bad += h5_read(h, set[i], DTYPE_F32, data, n) != OK;
    }
    n_bad += h5_read_text_attr(h, "/one", "prompts", &text) != OK;
    free(text);
    n_bad += h5_close(h) != OK;
    return n_bad;
}

/* Every 29th byte keeps the test to seconds; PALIGRID_DAMAGE_ALL in the environment takes all of
 * them. */
static void test_damaged_bytes_do_not_crash(void **state)
{
    struct scratch *s = *state;
    const uint8_t damage[] = {0xff, 0x01, 0x80};
    const size_t stride = getenv("PALIGRID_DAMAGE_ALL") ? 1 : 29;
    uint8_t *bytes;
    size_t n, n_refused = 0;

    write_sample(s->path, 10000);
    assert_int_equal(read_everything(s->path), 0);
    bytes = (uint8_t *)whole_file_read(s->path, &n);
    for (size_t i = 0; i < n; i += stride) {
        const uint8_t whole = bytes[i];

        bytes[i] ^= damage[i % sizeof damage];
        whole_file_write(s->path, bytes, n);
        alarm(60); /* a hang ends the test */
        n_refused += read_everything(s->path) > 0;
        bytes[i] = whole;
    }
    alarm(0);
    free(bytes);
    assert_true(n_refused > 100 / stride); /* headers make up that much of the file */
}

/* A chunk described as wider than what was deflated: libhdf5 1.10 reads past its buffer. */
static void test_damage_the_library_dies_of_is_refused(void **state)
{
    struct scratch *s = *state;
    const uint8_t chunk[] = {100, 0, 0, 0, 100, 0, 0, 0, 4, 0, 0, 0};
    uint8_t *bytes;
    size_t n, at = 0;

    write_sample(s->path, 10000);
    bytes = (uint8_t *)whole_file_read(s->path, &n);
    while (at + sizeof chunk <= n && memcmp(bytes + at, chunk, sizeof chunk) != 0)
        at++;
    assert_true(at + sizeof chunk <= n);
    bytes[at + 5] = 0xff;
    whole_file_write(s->path, bytes, n);
    assert_true(read_everything(s->path) > 0);
    assert_non_null(strstr(log_last_error(), s->path));
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written_is_read_back, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(test_large_arrays_are_compressed_and_files_reproducible,
                                        make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(test_only_whole_files_get_their_name, make_scratch,
                                        drop_scratch),
        cmocka_unit_test_setup_teardown(test_files_that_cannot_be_opened, make_scratch,
                                        drop_scratch),
        cmocka_unit_test_setup_teardown(test_wrong_requests_name_the_dataset, make_scratch,
                                        drop_scratch),
        cmocka_unit_test_setup_teardown(test_damaged_bytes_do_not_crash, make_scratch,
                                        drop_scratch),
        cmocka_unit_test_setup_teardown(test_damage_the_library_dies_of_is_refused, make_scratch,
                                        drop_scratch),
    };

    return cmocka_run_group_tests_name("h5", tests, NULL, NULL);
}

// RANKS: 1
/* HDF5 files as data sets: raw and encoded pictures, texts in every way, numbers, and what is wrong. */
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dataset.h"
#include "dataset_case.h"
#include "picture_files.h"
#include "status.h"

struct fixture {
    char *folder, path[256];
    hid_t file;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->folder = scratch_create();
    snprintf(f->path, sizeof f->path, "%s/a.h5", f->folder);
    f->file = H5Fcreate(f->path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(f->file >= 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    if (f->file >= 0)
        H5Fclose(f->file);
    scratch_remove(f->folder);
    free(f);
    return 0;
}

static void check_last_error(const char *part)
{
    if (!strstr(log_last_error(), part))
        fail_msg("message \"%s\" without \"%s\"", log_last_error(), part);
}

/* Writes an array; chunk_rows > 0: in compressed chunks. */
static void put(struct fixture *f, const char *name, hid_t type, int n_dims, const hsize_t *dim,
                const void *data, hsize_t chunk_rows)
{
    hid_t list = H5Pcreate(H5P_DATASET_CREATE), links = H5Pcreate(H5P_LINK_CREATE), space, set;
    hsize_t chunk[4] = {chunk_rows, n_dims > 1 ? dim[1] : 1, n_dims > 2 ? dim[2] : 1,
                        n_dims > 3 ? dim[3] : 1};

    if (chunk_rows > 0) {
        H5Pset_chunk(list, n_dims, chunk);
        H5Pset_deflate(list, 4);
    }
    H5Pset_create_intermediate_group(links, 1);
    space = H5Screate_simple(n_dims, dim, NULL);
    set = H5Dcreate2(f->file, name, type, space, links, list, H5P_DEFAULT);
    assert_true(set >= 0);
    assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(links);
    H5Pclose(list);
}

static void put_bytes(struct fixture *f, const char *name, const char *bytes)
{
    const hsize_t n = strlen(bytes);

    put(f, name, H5T_NATIVE_UINT8, 1, &n, bytes, 0);
}

static void put_ints(struct fixture *f, const char *name, hsize_t n, const int64_t *value)
{
    put(f, name, H5T_NATIVE_INT64, 1, &n, value, 0);
}

/* Texts of variable length, as h5py writes them. */
static void put_texts(struct fixture *f, const char *name, hsize_t n, const char *const *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    put(f, name, type, 1, &n, text, 2);
    H5Tclose(type);
}

static void put_fixed_texts(struct fixture *f, const char *name, hsize_t n, const char *text,
                            size_t size)
{
    hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, size);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    put(f, name, type, 1, &n, text, 0);
    H5Tclose(type);
}

/* n pictures of 2 x 3 pixels, the first byte of picture i is i. */
static void put_raw_images(struct fixture *f, const char *name, hsize_t n, hsize_t chunk_rows)
{
    const hsize_t dim[4] = {n, 3, 2, 3};
    uint8_t *data = calloc(n, 18);

    for (hsize_t i = 0; i < n; i++)
        memset(data + 18 * i, (int)i, 18);
    put(f, name, H5T_NATIVE_UINT8, 4, dim, data, chunk_rows);
    free(data);
}

static void check(struct fixture *f, const char *const prompt[], const char *expected)
{
    struct dataset_params p;

    H5Fclose(f->file);
    f->file = -1;
    p = dataset_case(f->path, prompt);
    dataset_check(&p, f->folder, expected);
}

static void test_raw(void **state)
{
    static const char *const prompt[] = {"caption {lang} {n}", NULL};
    static const char *const lang[] = {"en", "\xc3\xa9", NULL};
    static const double score[3] = {0.5, 1, 2};
    const hsize_t three = 3;
    struct fixture *f = *state;

    put_raw_images(f, "images", 3, 0);
    put_texts(f, "lang", 3, lang);
    put_ints(f, "n", 3, (const int64_t[]){7, -8, 9});
    put_ints(f, "other", 2, (const int64_t[]){1, 2});
    put(f, "score", H5T_NATIVE_DOUBLE, 1, &three, score, 0);
    check(f, prompt,
          "0 0 caption en 7 [a.h5 row 0:2x3:0]\n1 1 caption \xc3\xa9 -8 [a.h5 row 1:2x3:1]\n"
          "2 2 caption  9 [a.h5 row 2:2x3:2]\n");
}

static void test_encoded_in_groups(void **state)
{
    static const char *const id[] = {"x", "y", "z"};
    struct fixture *f = *state;

    put_bytes(f, "images/bytes", "aabbbc");
    put_ints(f, "images/offsets", 4, (const int64_t[]){0, 2, 5, 6});
    put_bytes(f, "prefix/bytes", "ocrcaption encaption de");
    put_ints(f, "prefix/offsets", 4, (const int64_t[]){0, 3, 13, 23});
    put_fixed_texts(f, "suffix", 3, "one\0two\0four", 4);
    put_texts(f, "id", 3, id);
    put_ints(f, "question_id", 3, (const int64_t[]){5, 6, 7});
    put_ints(f, "image_id", 3, (const int64_t[]){1, 1, 2});
    check(f, NULL,
          "0 x ocr -> one [a.h5 row 0:aa] number=5 image_id=1\n"
          "1 y caption en -> two [a.h5 row 1:bbb] number=6 image_id=1\n"
          "2 z caption de -> four [a.h5 row 2:c] number=7 image_id=2\n");
}

static void test_encoded_side_by_side(void **state)
{
    struct fixture *f = *state;

    put_bytes(f, "image_bytes", "aabbbc");
    put_ints(f, "image_offsets", 4, (const int64_t[]){0, 2, 5, 6});
    put_bytes(f, "prompt_bytes", "ocr\xff");
    put_ints(f, "prompt_offsets", 4, (const int64_t[]){0, 3, 4, 4});
    check(f, NULL, "0 0 ocr [a.h5 row 0:aa]\n1 1 !\n2 2  [a.h5 row 2:c]\n");
}

static void test_bad_offsets_cost_their_rows(void **state)
{
    static const char *const prompt[] = {"p", NULL};
    struct fixture *f = *state;

    put_bytes(f, "images/bytes", "aabbbc");
    put_ints(f, "images/offsets", 7, (const int64_t[]){0, 2, 1, 6, 7, -1, 6});
    check(f, prompt,
          "0 0 p [a.h5 row 0:aa]\n1 row-1 !\n2 2 p [a.h5 row 2:abbbc]\n3 row-3 !\n4 row-4 !\n"
          "5 row-5 !\n");
    check_last_error("row 5: images: offsets -1 and 6 of 6 bytes");
}

/* More rows than a block of offsets and than a chunk hold. */
static void test_many_rows(void **state)
{
    enum { N = 1500 };
    static int64_t offset[N + 1];
    static char bytes[3 * N + 1];
    struct fixture *f = *state;
    struct dataset_params p;
    struct dataset *d;
    struct sample *s;

    for (int i = 0; i < N; i++) {
        snprintf(bytes + offset[i], 8, "%d", i % 100);
        offset[i + 1] = offset[i] + (i % 100 < 10 ? 1 : 2);
    }
    put_raw_images(f, "image", N, 100);
    put_bytes(f, "prefix/bytes", bytes);
    put(f, "prefix/offsets", H5T_NATIVE_INT64, 1, (const hsize_t[]){N + 1}, offset, 64);
    H5Fclose(f->file);
    f->file = -1;
    p = dataset_case(f->path, NULL);
    assert_int_equal(dataset_open(&d, &p), OK);
    assert_string_equal(dataset_format_name(d), "h5");
    for (int i = 0; i < N; i++) {
        assert_int_equal(dataset_next(d, &s), OK);
        assert_int_equal(s->rc, OK);
        assert_int_equal(atoi(s->record[0].prompt), i % 100);
        assert_int_equal(s->image[0].bytes[17], i % 256);
        sample_free(s);
    }
    assert_int_equal(dataset_next(d, &s), OK);
    assert_null(s);
    dataset_close(d);
}

static void test_no_pictures(void **state)
{
    static const char *const prompt[] = {"p", NULL};
    struct fixture *f = *state;

    put_ints(f, "pixels", 2, (const int64_t[]){1, 2});
    check(f, prompt, "ERR_INPUT\n");
    check_last_error("a.h5: no pictures; wanted are images, u8 [N, height, width, 3]");
}

static void test_wrong_shapes(void **state)
{
    static const char *const prompt[] = {"p", NULL};
    static const float real[2 * 2 * 2 * 3];
    struct fixture *f = *state;

    put(f, "images", H5T_NATIVE_FLOAT, 4, (const hsize_t[]){2, 2, 2, 3}, real, 0);
    check(f, prompt, "ERR_INPUT\n");
    check_last_error("a.h5: images: raw pictures are u8 [N, height, width, 3]");
}

static void test_columns_of_other_lengths(void **state)
{
    static const char *const text[] = {"a", "b", "c"};
    struct fixture *f = *state;

    put_raw_images(f, "images", 2, 0);
    put_texts(f, "prefix", 3, text);
    check(f, NULL, "ERR_INPUT\n");
    check_last_error("prefix has 3 rows, images 2");
}

static void test_no_file_of_hdf5(void **state)
{
    struct fixture *f = *state;
    struct dataset_params p;
    char path[256];

    scratch_write(f->folder, "b.h5", "\x89HDF\r\n\x1a\nnothing more", 20, path);
    p = dataset_case(path, NULL);
    dataset_check(&p, f->folder, "ERR_INPUT\n");
    check_last_error("b.h5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_raw, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encoded_in_groups, setup, teardown),
        cmocka_unit_test_setup_teardown(test_encoded_side_by_side, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_offsets_cost_their_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_pictures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wrong_shapes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_columns_of_other_lengths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_file_of_hdf5, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

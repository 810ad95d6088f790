// RANKS: 1
/* Damaged files: each is refused with ERR_MODEL and a message that names the file and the tensor.
 *
 * Containers that break a rule of the format, and model files whose tensors do not fit the
 * configuration. Valid oddities must open. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../src/weights/weights_safetensors.h"
#include "checkpoint.h"
#include "status.h"

#define SINGLE "model.safetensors"

/* ---- containers ---- */

static const struct {
    const char *what, *header;
    size_t n_data;
    const char *says[3];
} containers[] = {
    {"no JSON", "hello", 0, {"not JSON"}},
    {"space before the brace", " {}", 0, {"not JSON"}},
    {"array", "[]", 0, {"not JSON"}},
    {"cut in the middle", "{\"a\":{\"dtype\":\"F32\",", 4, {"line 1"}},
    {"two objects", "{}{}", 0, {"line 1"}},
    {"invalid UTF-8 in a name",
     "{\"a\xff\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     {"0xff"}},
    {"a name twice",
     "{\"twin\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"twin\":{\"dtype\":"
     "\"F32\",\"shape\":[1],"
     "\"data_offsets\":[4,8]}}",
     8,
     {"duplicate", "twin"}},
    {"a key twice",
     "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     {"duplicate"}},
    {"an empty name",
     "{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     {"number 1", "printable"}},
    {"control characters in a name",
     "{\"a\\u001b[2J\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     {"number 1", "printable"}},
    {"NUL in a name",
     "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     {"\\u0000"}},
    {"entry is a number", "{\"a\":7}", 0, {"tensor a", "not an object"}},
    {"metadata holds a number", "{\"__metadata__\":{\"format\":1}}", 0, {"__metadata__"}},
    {"metadata is a string", "{\"__metadata__\":\"pt\"}", 0, {"__metadata__"}},
    {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, {"tensor a", "dtype"}},
    {"unknown dtype",
     "{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     4,
     {"tensor a", "F31"}},
    {"no shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, {"tensor a", "shape"}},
    {"shape with a fraction",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}",
     4,
     {"tensor a", "shape"}},
    {"shape with an exponent",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}",
     4,
     {"tensor a", "shape"}},
    {"negative size",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1,-1],\"data_offsets\":[0,4]}}",
     4,
     {"tensor a", "shape"}},
    {"size beyond 64 bits",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551617],\"data_offsets\":[0,4]}}",
     4,
     {"big"}},
    {"shape's product overflows to 4 bytes",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,1],\"data_offsets\":[0,0]}}",
     0,
     {"tensor a", "does not fit"}},
    {"empty, of endless rows",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,4294967296,4294967296],\"data_offsets\":[0,0]}}",
     0,
     {"tensor a", "rows"}},
    {"too many dimensions",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,"
     "4]}}",
     4,
     {"tensor a", "shape"}},
    {"no offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, {"tensor a", "data_offsets"}},
    {"three offsets",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}",
     4,
     {"tensor a", "data_offsets"}},
    {"negative offset",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}",
     4,
     {"tensor a", "data_offsets"}},
    {"begin behind end",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,4]}}",
     8,
     {"tensor a", "behind its end"}},
    {"end behind the file",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
     7,
     {"tensor a", "truncated"}},
    {"offsets too long for the shape",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}",
     8,
     {"tensor a", "32 bits", "8 bytes"}},
    {"offsets too short for the shape",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
     8,
     {"tensor a", "96 bits"}},
    {"half a byte",
     "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}",
     1,
     {"tensor a", "12 bits"}},
    {"overlap",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\","
     "\"shape\":[2],"
     "\"data_offsets\":[4,12]}}",
     12,
     {"tensor b", "overlaps a", "4 bytes"}},
    {"the same bytes twice",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\","
     "\"shape\":[2],"
     "\"data_offsets\":[0,8]}}",
     8,
     {"tensor b", "overlaps a"}},
    {"hole",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\","
     "\"shape\":[1],"
     "\"data_offsets\":[5,9]}}",
     9,
     {"1 bytes between a and tensor b"}},
    {"hole in front",
     "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8,
     {"between the header and tensor b"}},
    {"bytes behind the last",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
     6,
     {"2 bytes after a"}},
    {"data but no tensor", "{}", 6, {"6 bytes after the header"}},
    {"no tensor at all", "{}", 0, {"no tensor"}},
    {"a type that weights cannot have",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
     4,
     {"tensor a", "U8"}},
    {"double precision",
     "{\"a\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
     8,
     {"tensor a", "F64"}},
    {"five dimensions",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}",
     4,
     {"tensor a", "5 dimensions"}},
    {"two spellings of one tensor",
     "{\"lm_head.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"language_"
     "model.lm_head.weight\":"
     "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8,
     {"tensor l", "is the same tensor as l", "language_model.lm_head.weight"}},
};

static void bad_containers(void **state)
{
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    for (size_t i = 0; i < sizeof containers / sizeof *containers; i++) {
        const char *says[] = {"model.safetensors", containers[i].says[0], containers[i].says[1],
                              containers[i].says[2]};
        bool empty = strcmp(containers[i].what, "no tensor at all") == 0;
        checkpoint_write_container(&k, SINGLE, containers[i].header, containers[i].n_data);
        checkpoint_refused(&k, containers[i].what, ERR_MODEL, says + empty,
                           4 - empty); /* that message names the folder */
    }
    checkpoint_remove(&k);
}

static void bad_prefixes(void **state)
{
    static const struct {
        const char *what;
        char bytes[16];
        size_t n;
        const char *says;
    } files[] = {
        {"empty file", "", 0, "too short"},
        {"7 bytes", "\2\0\0\0\0\0\0", 7, "too short"},
        {"header longer than the file", "\3\0\0\0\0\0\0\0{}", 10, "3 bytes, but only 2 follow"},
        {"header of 2^63 bytes", "\0\0\0\0\0\0\0\200{}", 10, "9223372036854775808"},
        {"header of 2^64 - 1 bytes", "\377\377\377\377\377\377\377\377{}", 10,
         "18446744073709551615"},
        {"header of 100,000,001 bytes", "\1\341\365\5\0\0\0\0{}", 10, "100000001"},
        {"header of no bytes", "\0\0\0\0\0\0\0\0", 8, "not JSON"},
    };
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *const says[] = {SINGLE, files[i].says};
        checkpoint_write(&k, SINGLE, files[i].bytes, files[i].n);
        checkpoint_refused(&k, files[i].what, ERR_MODEL, says, 2);
        assert_int_equal(
            weights_check_safetensors((const uint8_t *)files[i].bytes, files[i].n, "bytes"),
            ERR_MODEL);
    }
    checkpoint_remove(&k);
}

static void odd_but_valid_containers(void **state)
{
    static const struct {
        const char *header;
        size_t n_data;
    } good[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}        ", 4},
        {"{\"__metadata__\":{\"format\":\"pt\",\"x\":\"\"},\"a\":{\"dtype\":\"BF16\",\"shape\":[],"
         "\"data_offsets\":[0,2]}}",
         2},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[0,0]}}", 0},
        {"{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]},\"i.position_ids\":{"
         "\"dtype\":\"U8\",\"shape\":[3],"
         "\"data_offsets\":[0,3]},\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[3,3]}}",
         7},
        {"{\"x.rotary_emb.inv_freq\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]},\"a\":"
         "{\"dtype\":\"F16\",\"shape\":[1],"
         "\"data_offsets\":[1,3]}}",
         3},
    };
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct model_config cfg;
        struct weights *w;
        checkpoint_write_container(&k, SINGLE, good[i].header, good[i].n_data);
        if (weights_open(&w, &cfg, k.dir) != OK)
            fail_msg("container %zu: %s", i, log_last_error());
        weights_close(w);
    }
    checkpoint_remove(&k);
}

/* ---- model files ---- */

#define NORM "language_model.model.norm.weight"
#define FC1 "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"

static const struct {
    const char *what, *after, *find, *by;
    const char *says[3];
} models[] = {
    {"missing tensor, unknown one instead",
     "",
     NORM,
     "language_model.model.gnorm.weight",
     {NORM, "missing"}},
    {"missing vision tensor", "", FC1, "position_ids.position_ids", {FC1, "missing"}},
    {"wrong shape, same size", FC1, "[40,24]", "[24,40]", {FC1, "[24, 40]", "[40, 24]"}},
    {"flattened", FC1, "[40,24]", "[960]", {FC1, "[960]", "[40, 24]"}},
    {"unknown layer",
     "",
     "layers.1.mlp.up_proj.weight",
     "layers.2.mlp.up_proj.weight",
     {"layers.1.mlp.up_proj.weight", "missing"}},
    {"wrong type", NORM, "\"BF16\",\"shape\":[32]", "\"I16\",\"shape\":[32]", {NORM, "I16"}},
    {"quantised", FC1, "\"BF16\",\"shape\":[40,24]", "\"U8\",\"shape\":[40,48]", {FC1, "U8"}},
};

static void bad_models(void **state)
{
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct st_image x;
        struct loaded l;
        int rc;
        st_image_read(&x, CHECKPOINT_MICRO "/" SINGLE);
        st_image_replace(&x, models[i].after, models[i].find, models[i].by);
        st_image_write(&x, &k, SINGLE);
        st_image_release(&x);
        rc = load_everything(&l, k.dir);
        if (rc != ERR_MODEL)
            fail_msg("%s: %s", models[i].what, status_name(rc));
        assert_non_null(strstr(log_last_error(), k.dir));
        for (size_t j = 0; j < 3 && models[i].says[j]; j++)
            if (!strstr(log_last_error(), models[i].says[j]))
                fail_msg("%s: \"%s\" does not say \"%s\"", models[i].what, log_last_error(),
                         models[i].says[j]);
    }
    checkpoint_remove(&k);
}

static void unknown_tensor(void **state)
{
    struct checkpoint k;
    struct st_image x;
    struct loaded l;

    (void)state;
    checkpoint_make(&k);
    st_image_read(&x, CHECKPOINT_MICRO "/" SINGLE);
    st_image_replace(&x, "", "\"" NORM "\"",
                     "\"language_model.model.extra.weight\":{\"dtype\":\"BF16\",\"shape\":[0],"
                     "\"data_offsets\":[146432,146432]},\"" NORM "\"");
    st_image_write(&x, &k, SINGLE);
    st_image_release(&x);
    assert_int_equal(load_everything(&l, k.dir), ERR_MODEL);
    assert_non_null(
        strstr(log_last_error(), "unknown tensor language_model.model.extra.weight in"));
    assert_non_null(strstr(log_last_error(), SINGLE));
    checkpoint_remove(&k);
}

/* Each type's infinities and NaNs, at the first, a middle and the last element; large finite values
 * pass. */
static void non_finite_weights(void **state)
{
    static const struct {
        uint16_t bits;
        size_t element; /* of fc1 [40, 24] */
        const char *says;
    } bad[] = {{0x7F80, 0, "[0, 0]"},
               {0xFF80, 959, "[39, 23]"},
               {0x7FC0, 77, "[3, 5]"},
               {0x7F81, 500, "[20, 20]"},
               {0x7F7F, 5, NULL}};
    const size_t fc1_at = 176832;
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct st_image x;
        struct loaded l;
        int rc;
        st_image_read(&x, CHECKPOINT_MICRO "/" SINGLE);
        memcpy(x.data + fc1_at + 2 * bad[i].element, &bad[i].bits, sizeof bad[i].bits);
        st_image_write(&x, &k, SINGLE);
        st_image_release(&x);
        rc = load_everything(&l, k.dir);
        assert_int_equal(rc, bad[i].says ? ERR_MODEL : OK);
        if (rc == OK) {
            loaded_release(&l);
            continue;
        }
        assert_non_null(strstr(log_last_error(), FC1));
        assert_non_null(strstr(log_last_error(), SINGLE));
        assert_non_null(strstr(log_last_error(), bad[i].says));
    }
    checkpoint_remove(&k);
}

/* Between the check of the header and the reading of the data. */
static void file_shrinks_while_open(void **state)
{
    struct checkpoint k;
    struct st_image x;
    struct st_file f;
    char byte[16];

    (void)state;
    checkpoint_make(&k);
    st_image_read(&x, CHECKPOINT_MICRO "/" SINGLE);
    st_image_write(&x, &k, SINGLE);
    assert_int_equal(st_file_open(&f, checkpoint_path(&k, SINGLE)), OK);
    assert_int_equal(st_file_read(&f, f.n_bytes - 16, byte, 16), OK);
    assert_memory_equal(byte, x.data + x.n_data - 16, 16);
    assert_int_equal(truncate(checkpoint_path(&k, SINGLE), 1000), 0);
    assert_int_equal(st_file_read(&f, f.n_bytes - 16, byte, 16), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), SINGLE));
    assert_non_null(strstr(log_last_error(), "shorter"));
    assert_int_equal(st_file_read(&f, 992, byte, 16), ERR_MODEL);
    st_file_close(&f);
    st_image_release(&x);
    checkpoint_remove(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_containers),           cmocka_unit_test(bad_prefixes),
        cmocka_unit_test(odd_but_valid_containers), cmocka_unit_test(bad_models),
        cmocka_unit_test(unknown_tensor),           cmocka_unit_test(non_finite_weights),
        cmocka_unit_test(file_shrinks_while_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

// RANKS: 1
/* Checkpoint folders: index and shards that disagree, what is there instead of safetensors, links
 * and devices. Each is refused with ERR_MODEL and a message that names the file and the tensor. */
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

#include "checkpoint.h"
#include "status.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

#define A "model-00001-of-00002.safetensors"
#define B "model-00002-of-00002.safetensors"

static const struct {
    const char *what, *index;
    const char *says[3];
} folders[] = {
    {"no JSON", "weight_map", {INDEX, "line 1"}},
    {"no map", "{\"metadata\":{}}", {INDEX, "weight_map"}},
    {"an array", "[]", {INDEX, "weight_map"}},
    {"map of nothing", "{\"weight_map\":{}}", {INDEX, "weight_map"}},
    {"map to a number", "{\"weight_map\":{\"a\":1}}", {INDEX, "tensor a"}},
    {"absolute path",
     "{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}",
     {INDEX, "tensor a", "/etc/x.safetensors"}},
    {"path upwards",
     "{\"weight_map\":{\"a\":\"../x.safetensors\"}}",
     {INDEX, "tensor a", "../x.safetensors"}},
    {"path downwards",
     "{\"weight_map\":{\"a\":\"x/y.safetensors\"}}",
     {INDEX, "tensor a", "x/y.safetensors"}},
    {"backslash", "{\"weight_map\":{\"a\":\"x\\\\y.safetensors\"}}", {INDEX, "tensor a"}},
    {"pickle",
     "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}",
     {INDEX, "tensor a", "pytorch_model.bin"}},
    {"a tensor twice", "{\"weight_map\":{\"a\":\"" A "\",\"a\":\"" B "\"}}", {INDEX, "duplicate"}},
    {"missing shard",
     "{\"weight_map\":{\"a\":\"" A "\",\"b\":\"model-00003-of-00002.safetensors\"}}",
     {"model-00003-of-00002", "missing"}},
    {"shard without the tensor",
     "{\"weight_map\":{\"a\":\"" A "\",\"b\":\"" B "\",\"c\":\"" B "\"}}",
     {INDEX, "tensor c", "is not in " B}},
    {"tensor that is not listed",
     "{\"weight_map\":{\"a\":\"" A "\",\"c\":\"" B "\"}}",
     {B, "tensor b", "not listed"}},
    {"tensors exchanged", "{\"weight_map\":{\"a\":\"" B "\",\"b\":\"" A "\"}}", {A, "tensor a", B}},
};

static void write_shards(const struct checkpoint *k)
{
    checkpoint_write_container(
        k, A, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    checkpoint_write_container(
        k, B, "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
}

static void bad_folders(void **state)
{
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    write_shards(&k);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        checkpoint_write(&k, INDEX, folders[i].index, strlen(folders[i].index));
        checkpoint_refused(&k, folders[i].what, ERR_MODEL, folders[i].says, 3);
    }
    checkpoint_remove(&k);
}

static void tensor_in_two_shards(void **state)
{
    static const char index[] = "{\"weight_map\":{\"a\":\"" A "\",\"b\":\"" B "\"}}";
    static const char *const says[] = {B, "tensor a", A};
    struct checkpoint k;

    (void)state;
    checkpoint_make(&k);
    write_shards(&k);
    checkpoint_write_container(
        &k, B,
        "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{"
        "\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[8,12]}}",
        12);
    checkpoint_write(&k, INDEX, index, strlen(index));
    checkpoint_refused(&k, "tensor in two shards", ERR_MODEL, says, 3);
    checkpoint_remove(&k);
}

/* A wrong total_size is worth a warning only; and the digest sees which shard a tensor is in. */
static void shards_open_in_spite_of_total_size(void **state)
{
    static const char index[] =
        "{\"metadata\":{\"total_size\":13},\"weight_map\":{\"a\":\"" A "\",\"b\":\"" B "\"}}";
    struct model_config cfg;
    struct checkpoint k;
    struct digest one;
    struct weights *w;

    (void)state;
    checkpoint_make(&k);
    write_shards(&k);
    checkpoint_write(&k, INDEX, index, strlen(index));
    assert_int_equal(weights_open(&w, &cfg, k.dir), OK);
    assert_int_equal(weights_n_tensors(w), 2);
    assert_int_equal(weights_total_bytes(w), 12);
    one = weights_digest(w);
    weights_close(w);
    checkpoint_write_container(
        &k, SINGLE,
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{"
        "\"dtype\":\"F32\",\"shape\":[2],"
        "\"data_offsets\":[4,12]}}",
        12);
    assert_int_equal(weights_open(&w, &cfg, k.dir), OK);
    assert_false(digest_equal(one, weights_digest(w)));
    weights_close(w);
    checkpoint_remove(&k);
}

static void no_checkpoint_here(void **state)
{
    static const char *const says_bin[] = {"pytorch_model.bin", "only safetensors"};
    static const char *const says_shard[] = {A, INDEX};
    struct model_config cfg;
    struct checkpoint k;
    struct weights *w;

    (void)state;
    assert_int_equal(weights_open(&w, &cfg, "/nowhere/at/all"), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "/nowhere/at/all"));
    assert_int_equal(weights_open(&w, &cfg, CHECKPOINT_MICRO "/" SINGLE), ERR_MODEL);
    assert_non_null(strstr(log_last_error(), "not a folder"));
    checkpoint_make(&k);
    checkpoint_write(&k, "pytorch_model.bin", "x", 1);
    checkpoint_refused(&k, "a pickle", ERR_MODEL, says_bin, 2);
    remove(checkpoint_path(&k, "pytorch_model.bin"));
    checkpoint_write_container(&k, A, "{}", 0);
    checkpoint_refused(&k, "shards without an index", ERR_MODEL, says_shard, 2);
    checkpoint_remove(&k);
}

/* Model hubs' caches are links to files; a link to a device, a FIFO, a folder or nothing is no
 * weights. */
static void links_and_devices(void **state)
{
    static const char *const says[] = {SINGLE, "regular"}, *const broken[] = {SINGLE,
                                                                              "broken link"};
    char *from = realpath(CHECKPOINT_MICRO "/" SINGLE, NULL);
    struct checkpoint k;
    struct loaded l;

    (void)state;
    assert_non_null(from);
    checkpoint_make(&k);
    assert_int_equal(symlink(from, checkpoint_path(&k, SINGLE)), 0);
    assert_int_equal(load_everything(&l, k.dir), OK);
    loaded_release(&l);
    remove(checkpoint_path(&k, SINGLE));
    assert_int_equal(symlink("/dev/zero", checkpoint_path(&k, SINGLE)), 0);
    checkpoint_refused(&k, "a device", ERR_MODEL, says, 2);
    remove(checkpoint_path(&k, SINGLE));
    assert_int_equal(mkfifo(checkpoint_path(&k, SINGLE), 0600), 0);
    checkpoint_refused(&k, "a FIFO", ERR_MODEL, says, 2);
    remove(checkpoint_path(&k, SINGLE));
    assert_int_equal(mkdir(checkpoint_path(&k, SINGLE), 0700), 0);
    checkpoint_refused(&k, "a folder", ERR_MODEL, says, 2);
    remove(checkpoint_path(&k, SINGLE));
    assert_int_equal(symlink("/nowhere", checkpoint_path(&k, SINGLE)), 0);
    checkpoint_refused(&k, "a broken link", ERR_MODEL, broken, 2);
    checkpoint_remove(&k);
    free(from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_folders),
        cmocka_unit_test(tensor_in_two_shards),
        cmocka_unit_test(shards_open_in_spite_of_total_size),
        cmocka_unit_test(no_checkpoint_here),
        cmocka_unit_test(links_and_devices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

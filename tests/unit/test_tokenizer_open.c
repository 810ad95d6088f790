// RANKS: 1
/* Which tokenizer.model files are opened, and that every other one is an error that names it.
 *
 * Damage is made from the real file of tests/data/oracle/tok512: truncated, overwritten, or with
 * one more settings field at its end, which overrides the earlier one by protobuf's rules. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"
#include "tokenizer.h"

enum { N_BASE = 512, N_ADDED = 1152, IMAGE_TOKEN = N_BASE + N_ADDED, MAX_MODEL = 64 << 10 };

static const char folder[] = "tests/data/oracle/tok512";
static unsigned char model[MAX_MODEL];
static size_t n_model;

static int read_model(void **state)
{
    FILE *f = fopen("tests/data/oracle/tok512/tokenizer.model", "rb");

    (void)state;
    if (!f)
        return -1;
    n_model = fread(model, 1, sizeof model, f);
    fclose(f);
    return n_model == 0 || n_model == sizeof model;
}

/* Opening these bytes must fail with ERR_MODEL, name the file, and say `culprit`. */
static void check_refused(const void *bytes, size_t n_bytes, int32_t image_token,
                          const char *culprit)
{
    struct tokenizer *t = NULL;

    assert_int_equal(tokenizer_create_model(&t, bytes, n_bytes, image_token, "dir/x.model"),
                     ERR_MODEL);
    assert_null(t);
    assert_non_null(strstr(log_last_error(), "dir/x.model"));
    assert_non_null(strstr(log_last_error(), culprit));
}

/* The real file with `n` more bytes. */
static void check_appended(const char *more, size_t n, const char *culprit)
{
    static unsigned char longer[MAX_MODEL + 64];

    memcpy(longer, model, n_model);
    memcpy(longer + n_model, more, n);
    check_refused(longer, n_model + n, IMAGE_TOKEN, culprit);
}

/* Copies the file without the pieces [from, to); returns the bytes written. */
static size_t without_pieces(unsigned char *out, int from, int to)
{
    size_t n_out = 0;
    int piece = 0;

    for (size_t i = 0; i < n_model;) {
        const bool is_piece = model[i] == 0x0A;
        size_t length = 0, at = i + 1;
        int shift = 0;

        do {
            assert_true(at < n_model);
            length |= (size_t)(model[at] & 0x7F) << shift;
            shift += 7;
        } while (model[at++] & 0x80);
        assert_true(length <= n_model - at);
        if (!is_piece || piece < from || piece >= to) {
            memcpy(out + n_out, model + i, at + length - i);
            n_out += at + length - i;
        }
        piece += is_piece;
        i = at + length;
    }
    assert_int_equal(piece, N_BASE + N_ADDED);
    return n_out;
}

static void test_opens(void **state)
{
    struct tokenizer *t = NULL;

    (void)state;
    assert_int_equal(tokenizer_open(&t, folder, IMAGE_TOKEN), OK);
    assert_int_equal(tokenizer_n_pieces(t), IMAGE_TOKEN);
    tokenizer_close(t);
    tokenizer_close(NULL);
    assert_non_null(strstr(tokenizer_library(), "."));
}

static void check_text(const struct tokenizer *t, const char *text, const int32_t *want, size_t n)
{
    int32_t ids[64];
    size_t n_ids = 0, n_bytes = 0;
    char *back = NULL;

    assert_int_equal(tokenizer_encode(t, text, strlen(text), 0, ids, 64, &n_ids), OK);
    assert_int_equal(n_ids, n);
    assert_memory_equal(ids, want, n * sizeof *ids);
    assert_int_equal(tokenizer_decode(t, ids, n_ids, &back, &n_bytes), OK);
    assert_string_equal(back, text);
    free(back);
}

/* Without <loc> and <seg> in the file the same ids come out, and only the 1152 are completed. */
static void test_bare_model(void **state)
{
    static unsigned char bare[MAX_MODEL];
    const size_t n_bare = without_pieces(bare, N_BASE, N_BASE + N_ADDED);
    const int32_t boxes[] = {512, 1535, 1536, 1663, 382, 326, 372, 288};
    struct tokenizer *t = NULL;

    (void)state;
    assert_int_equal(tokenizer_create_model(&t, bare, n_bare, IMAGE_TOKEN, "bare.model"), OK);
    assert_int_equal(tokenizer_n_pieces(t), IMAGE_TOKEN);
    check_text(t, "<loc0000><loc1023><seg000><seg127>caption en", boxes, 8);
    tokenizer_close(t);
    assert_int_equal(tokenizer_open(&t, folder, IMAGE_TOKEN), OK);
    check_text(t, "<loc0000><loc1023><seg000><seg127>caption en", boxes, 8);
    tokenizer_close(t);
}

static void test_wrong_number_of_pieces(void **state)
{
    static unsigned char other[MAX_MODEL];
    size_t n;

    (void)state;
    check_refused(model, n_model, IMAGE_TOKEN + 1, "1664 pieces");
    check_refused(model, n_model, N_BASE, "512");
    check_refused(model, n_model, 257152, "257152");
    check_refused(model, n_model, -1, "-1");
    check_refused(model, n_model, INT32_MAX, "2147483647");
    n = without_pieces(other, 600, 601); /* one <loc> is missing */
    check_refused(other, n, IMAGE_TOKEN, "1663 pieces");
    check_refused(other, n, IMAGE_TOKEN - 1, "<loc0000>"); /* and now all ids are off by one */
    n = without_pieces(other, 0, 1);
    check_refused(other, n, IMAGE_TOKEN - 1, "<pad>");
    n = without_pieces(other, 100, 101); /* a byte piece */
    check_refused(other, n, IMAGE_TOKEN - 1, "<0x4B>");
}

static void test_wrong_settings(void **state)
{
    (void)state;
    check_appended("\x12\x02\x18\x01", 4, "BPE");
    check_appended("\x12\x03\x98\x02\x00", 5, "byte fallback");
    check_appended("\x12\x03\xC0\x01\x01", 5, "treat_whitespace_as_suffix 1");
    check_appended("\x1A\x02\x18\x01", 4, "add_dummy_prefix 1");
    check_appended("\x1A\x02\x20\x01", 4, "remove_extra_whitespaces 1");
    check_appended("\x1A\x02\x28\x00", 4, "escape_whitespaces 0");
    check_appended("\x1A\x03\x12\x01x", 5, "normaliser");
    check_appended("\x2A\x03\x12\x01x", 5, "normaliser");
}

static void test_wrong_pieces(void **state)
{
    static unsigned char other[MAX_MODEL];
    const struct {
        const char *piece;
        size_t n;
        const char *culprit;
    } cases[] = {
        {"\x0A\x00", 2, "piece 1663"},                          /* no text          */
        {"\x0A\x02\x0A\x00", 4, "piece 1663"},                  /* empty text       */
        {"\x0A\x03\x0A\x01\xFF", 5, "piece 1663"},              /* not UTF-8        */
        {"\x0A\x05\x0A\x01x\x18\x09", 7, "kind 9"},             /* no such kind     */
        {"\x0A\x08\x0A\x01x\x15\x00\x00\xC0\x7F", 10, "score"}, /* NaN              */
        {"\x0A\x08\x0A\x06<0x41>", 10, "<seg127>"},             /* another piece    */
        {"\x0A\x0C\x0A\x08<seg127>\x18\x03", 14, "kind 3"},     /* as a control one */
        {"\x0A\x0A\x0A\x08<seg126>", 12, "<seg127>"},           /* twice            */
    };
    const size_t n = without_pieces(other, IMAGE_TOKEN - 1, IMAGE_TOKEN);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        memcpy(other + n, cases[i].piece, cases[i].n);
        check_refused(other, n + cases[i].n, IMAGE_TOKEN, cases[i].culprit);
    }
}

/* Two tokens of one text: literals are found out here, other pieces by SentencePiece. */
static void test_duplicate_pieces(void **state)
{
    static unsigned char other[MAX_MODEL];
    size_t n = without_pieces(other, N_BASE - 1, N_BASE + N_ADDED);

    (void)state;
    memcpy(other + n, "\x0A\x09\x0A\x05<bos>\x18\x04", 11);
    check_refused(other, n + 11, IMAGE_TOKEN, "same text");
    memcpy(other + n,
           "\x0A\x03\x0A\x01"
           "a",
           5);
    check_refused(other, n + 5, IMAGE_TOKEN, "SentencePiece refuses it");
    memcpy(other + n, "\x0A\x0B\x0A\x07<image>\x18\x04", 13);
    check_refused(other, n + 13, IMAGE_TOKEN, "same text");
}

static void test_truncated(void **state)
{
    struct tokenizer *t = NULL;

    (void)state;
    for (size_t n = 1; n < n_model; n += n < 40 || n + 200 > n_model ? 1 : 97) {
        assert_int_equal(tokenizer_create_model(&t, model, n, IMAGE_TOKEN, "cut.model"), ERR_MODEL);
        assert_null(t);
        assert_non_null(strstr(log_last_error(), "cut.model"));
    }
    check_refused(model, 0, IMAGE_TOKEN, "0 bytes");
}

/* Any byte overwritten: opened or refused, never a crash; what is opened still encodes. */
static void test_overwritten(void **state)
{
    static unsigned char other[MAX_MODEL];
    uint32_t random = 12345;
    int n_opened = 0, n_refused = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        struct tokenizer *t = NULL;
        int32_t ids[64];
        size_t n_ids = 0;
        int rc;

        random = random * 1664525u + 1013904223u;
        memcpy(other, model, n_model);
        other[random % n_model] ^= (unsigned char)(1u << (random >> 29));
        rc = tokenizer_create_model(&t, other, n_model, IMAGE_TOKEN, "bit.model");
        if (rc == OK) {
            n_opened++;
            assert_int_equal(tokenizer_encode(t, "caption en", 10, 0, ids, 64, &n_ids), OK);
        } else {
            n_refused++;
            assert_int_equal(rc, ERR_MODEL);
        }
        tokenizer_close(t);
    }
    assert_true(n_opened > 0 && n_refused > 0);
}

static void test_garbage(void **state)
{
    unsigned char noise[512];

    (void)state;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (unsigned char)(i * 167 + (i >> 3) * 29 + 7);
    check_refused(noise, sizeof noise, IMAGE_TOKEN, "SentencePiece model");
    check_refused("{\"version\": \"1.0\"}", 18, IMAGE_TOKEN, "SentencePiece model");
    memset(noise, 0, sizeof noise);
    check_refused(noise, sizeof noise, IMAGE_TOKEN, "SentencePiece model");
}

/* ---- what stands in a folder ---- */

static void path_of(char *path, size_t cap, const char *dir, const char *file)
{
    assert_true(snprintf(path, cap, "%s/%s", dir, file) < (int)cap);
}

static void write_file(const char *dir, const char *file, const void *bytes, size_t n)
{
    char path[256];
    FILE *f;

    path_of(path, sizeof path, dir, file);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void remove_file(const char *dir, const char *file)
{
    char path[256];

    path_of(path, sizeof path, dir, file);
    assert_int_equal(remove(path), 0);
}

static void check_folder(const char *dir, int code, const char *culprit)
{
    struct tokenizer *t = NULL;

    assert_int_equal(tokenizer_open(&t, dir, IMAGE_TOKEN), code);
    assert_null(t);
    assert_non_null(strstr(log_last_error(), "tokenizer.model"));
    assert_non_null(strstr(log_last_error(), culprit));
}

static void test_folders(void **state)
{
    char dir[] = "/tmp/test_tokenizer_open.XXXXXX", path[256];

    (void)state;
    assert_non_null(mkdtemp(dir));
    path_of(path, sizeof path, dir, "tokenizer.model");
    check_folder(dir, ERR_MODEL, "is missing");
    assert_null(strstr(log_last_error(), "tokenizer.json"));
    write_file(dir, "tokenizer.json", "{}", 2);
    check_folder(dir, ERR_MODEL, "tokenizer.json is there but is not read. Copy tokenizer.model");
    remove_file(dir, "tokenizer.json");

    write_file(dir, "tokenizer.model", "", 0);
    check_folder(dir, ERR_MODEL, "0 bytes");
    remove_file(dir, "tokenizer.model");
    assert_int_equal(mkfifo(path, 0600), 0);
    check_folder(dir, ERR_MODEL, "not a regular file");
    remove_file(dir, "tokenizer.model");
    assert_int_equal(mkdir(path, 0700), 0);
    check_folder(dir, ERR_MODEL, "not a regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("nowhere", path), 0);
    check_folder(dir, ERR_MODEL, "is missing");
    remove_file(dir, "tokenizer.model");
    assert_int_equal(rmdir(dir), 0);
    check_folder("tests/data/oracle/tok512.tsv", ERR_IO, "Not a directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens),
        cmocka_unit_test(test_bare_model),
        cmocka_unit_test(test_wrong_number_of_pieces),
        cmocka_unit_test(test_wrong_settings),
        cmocka_unit_test(test_wrong_pieces),
        cmocka_unit_test(test_duplicate_pieces),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_overwritten),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_folders),
    };

    return cmocka_run_group_tests(tests, read_model, NULL);
}

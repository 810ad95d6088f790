// RANKS: 1
/* Ids and decoded text of every row of tests/data/oracle/tok512.tsv and tok4096.tsv.
 *
 * A row: kind, input (hex), ids of transformers, ids of SentencePiece, decoded text of
 * transformers (hex), decoded text of SentencePiece, same. With TOKENIZER_PARSE_SPECIAL our ids
 * must be transformers'; without it special tokens are spelled, which is what SentencePiece does.
 * Kind random has no input: its ids are only decoded. Kind prompt is also built by prompt_build. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"
#include "tokenizer.h"

enum {
    BOS = 2,
    MAX_TEXT = 4096,
    MAX_LINE = 1 << 16,
    N_TEXTS = 522,
    N_ROWS = N_TEXTS + 20 + 29 + 80
};

struct text {
    char bytes[MAX_TEXT];
    size_t n;
};

struct ids {
    int32_t v[MAX_TEXT];
    size_t n;
};

struct row {
    char *kind;
    struct text input, decoded;
    struct ids hf, sp;
    bool has_sp;
};

static char *next_field(char **line)
{
    char *begin = *line, *end = begin + strcspn(begin, "\t\n");

    *line = *end ? end + 1 : end;
    *end = '\0';
    return begin;
}

static void read_hex(struct text *t, const char *hex)
{
    t->n = strlen(hex) / 2;
    assert_true(t->n < MAX_TEXT);
    for (size_t i = 0; i < t->n; i++) {
        unsigned byte;

        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        t->bytes[i] = (char)byte;
    }
}

static void read_ids(struct ids *ids, const char *s)
{
    char *end;

    for (ids->n = 0; *s; s = *end ? end + 1 : end) {
        assert_true(ids->n < MAX_TEXT);
        ids->v[ids->n++] = (int32_t)strtol(s, &end, 10);
        assert_true(end > s);
    }
}

static void read_row(struct row *r, char *line)
{
    const char *sp;

    r->kind = next_field(&line);
    read_hex(&r->input, next_field(&line));
    read_ids(&r->hf, next_field(&line));
    sp = next_field(&line);
    r->has_sp = strcmp(sp, "-") != 0;
    read_ids(&r->sp, r->has_sp ? sp : "");
    read_hex(&r->decoded, next_field(&line));
}

static bool same_ids(const struct ids *got, const struct ids *want)
{
    return got->n == want->n && memcmp(got->v, want->v, got->n * sizeof *got->v) == 0;
}

/* The same prompt from its parts: the row is "<image><image><bos>" TEXT "\n". */
static bool same_prompt(const struct tokenizer *t, const struct row *r)
{
    static const char head[] = "<image><image><bos>";
    const size_t n_head = sizeof head - 1;
    const int32_t image_token = tokenizer_n_pieces(t);
    struct ids got;
    int32_t *ids = NULL;
    bool same;

    assert_true(r->input.n > n_head && memcmp(r->input.bytes, head, n_head) == 0);
    assert_int_equal(prompt_build(t, r->input.bytes + n_head, r->input.n - n_head - 1, 2, 1,
                                  image_token, BOS, 0, &ids, &got.n),
                     OK);
    assert_true(got.n <= MAX_TEXT);
    memcpy(got.v, ids, got.n * sizeof *ids);
    same = same_ids(&got, &r->hf);
    free(ids);
    return same;
}

/* Returns how many of the row's checks failed, and says which. */
static int check_row(const struct tokenizer *t, const struct row *r, int line_number)
{
    struct ids got = {.n = 0};
    char *text = NULL;
    size_t n_text = 0;
    int n_bad = 0;

    if (strcmp(r->kind, "random") != 0) {
        assert_int_equal(tokenizer_encode(t, r->input.bytes, r->input.n, TOKENIZER_PARSE_SPECIAL,
                                          got.v, MAX_TEXT, &got.n),
                         OK);
        if (!same_ids(&got, &r->hf) && ++n_bad)
            print_error("row %d (%s): other ids than transformers\n", line_number, r->kind);
    }
    if (strcmp(r->kind, "text") == 0) {
        assert_true(r->has_sp);
        got.n = 0;
        assert_int_equal(
            tokenizer_encode(t, r->input.bytes, r->input.n, 0, got.v, MAX_TEXT, &got.n), OK);
        if (!same_ids(&got, &r->sp) && ++n_bad)
            print_error("row %d: special tokens are not spelled as SentencePiece does\n",
                        line_number);
    }
    if (strcmp(r->kind, "prompt") == 0 && !same_prompt(t, r) && ++n_bad)
        print_error("row %d: prompt_build differs from the processor\n", line_number);
    assert_int_equal(tokenizer_decode(t, r->hf.v, r->hf.n, &text, &n_text), OK);
    if ((n_text != r->decoded.n || memcmp(text, r->decoded.bytes, n_text) != 0) && ++n_bad)
        print_error("row %d (%s): decoded '%s'\n", line_number, r->kind, text);
    assert_int_equal(text[n_text], '\0');
    free(text);
    return n_bad;
}

static void check_file(const char *folder, const char *tsv, int32_t image_token)
{
    static char line[MAX_LINE];
    static struct row row;
    struct tokenizer *t = NULL;
    FILE *f = fopen(tsv, "r");
    int n_rows = 0, n_bad = 0;

    assert_non_null(f);
    assert_int_equal(tokenizer_open(&t, folder, image_token), OK);
    assert_int_equal(tokenizer_n_pieces(t), image_token);
    while (fgets(line, sizeof line, f)) {
        assert_non_null(strchr(line, '\n'));
        if (line[0] == '#')
            continue;
        read_row(&row, line);
        n_rows++;
        n_bad += check_row(t, &row, n_rows + 1);
    }
    fclose(f);
    tokenizer_close(t);
    assert_int_equal(n_rows, N_ROWS);
    assert_int_equal(n_bad, 0);
}

static void test_tok512(void **state)
{
    (void)state;
    check_file("tests/data/oracle/tok512", "tests/data/oracle/tok512.tsv", 512 + 1152);
}

static void test_tok4096(void **state)
{
    (void)state;
    check_file("tests/data/oracle/tok4096", "tests/data/oracle/tok4096.tsv", 4096 + 1152);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tok512),
        cmocka_unit_test(test_tok4096),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

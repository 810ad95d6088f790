/* Opening a tokenizer, and text -> ids with transformers' rules.
 *
 * Encoding: (1) invalid UTF-8 becomes U+FFFD; (2) literal tokens are cut out of the raw text, the
 * longest at the leftmost position; (3) what lies between them goes to SentencePiece, piece by
 * piece, which is what transformers' BPE makes of it. Step 2 is where the two differ: a literal
 * U+2581 U+2581 in the text is a token before spaces become U+2581, and special tokens spelled
 * out are tokens if the caller says so. Everything is linear in the text but for SentencePiece's
 * own n log n. */
#include "tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "sizes.h"
#include "status.h"
#include "tokenizer_impl.h"
#include "utf8.h"

enum { MAX_FILE_BYTES = 64 << 20, MAX_PATH_BYTES = 4096, WHY_BYTES = 256 };

/* ---- opening ---- */

static int open_model(struct tokenizer *t, size_t n_bytes, int32_t image_token, const char *name)
{
    char why[WHY_BYTES];
    int sp;

    TRY(vocab_read_model(&t->vocab, t->file, n_bytes, image_token, name));
    TRY(literals_init(&t->literals, &t->vocab, name));
    sp = sp_load(&t->sp, t->file, n_bytes, why, sizeof why);
    if (sp == SP_NOMEM)
        return FAIL(ERR_NOMEM, "%s: SentencePiece", name);
    if (sp != SP_OK)
        return FAIL(ERR_MODEL, "%s: SentencePiece refuses it: %s", name, why);
    if (sp_n_pieces(t->sp) != t->vocab.n_in_file)
        return FAIL(ERR_MODEL,
                    "%s: SentencePiece finds %d pieces instead of %d; the file is damaged", name,
                    sp_n_pieces(t->sp), t->vocab.n_in_file);
    return OK;
}

/* Takes over `file`, also when it fails. */
static int create_model(struct tokenizer **out, char *file, size_t n_bytes, int32_t image_token,
                        const char *name)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    int rc;

    if (!t) {
        free(file);
        return FAIL(ERR_NOMEM, "%s: tokenizer", name);
    }
    t->file = file;
    TRY_GOTO(open_model(t, n_bytes, image_token, name), close_t);
    *out = t;
    return OK;
close_t:
    tokenizer_close(t);
    return rc;
}

/* The message says what to do: repositories saved by newer tools often have tokenizer.json only. */
static int missing_model(const char *dir, const char *path, int error)
{
    char json[MAX_PATH_BYTES];

    if (error != ENOENT)
        return FAIL(ERR_IO, "%s: %s", path, strerror(error));
    if (snprintf(json, sizeof json, "%s/tokenizer.json", dir) < (int)sizeof json &&
        access(json, F_OK) == 0)
        return FAIL(
            ERR_MODEL,
            "%s is missing; %s is there but is not read. Copy tokenizer.model from the model's "
            "published repository (all PaliGemma 2 repositories have the same file)",
            path, json);
    return FAIL(ERR_MODEL, "%s is missing. It is part of the model's published repository", path);
}

int tokenizer_open(struct tokenizer **out, const char *dir, int32_t image_token)
{
    char path[MAX_PATH_BYTES];
    char *file = NULL;
    size_t n_bytes = 0;
    int fd;

    if (snprintf(path, sizeof path, "%s/tokenizer.model", dir) >= (int)sizeof path)
        return FAIL(ERR_MODEL, "%.64s...: the path is too long", dir);
    fd = file_open_read(path);
    if (fd < 0)
        return missing_model(dir, path, errno);
    TRY(file_read_all(fd, path, MAX_FILE_BYTES, ERR_MODEL, &file, &n_bytes));
    if (n_bytes == 0) {
        free(file);
        return FAIL(ERR_MODEL, "%s: 0 bytes; a tokenizer.model has 1 to %d", path, MAX_FILE_BYTES);
    }
    return create_model(out, file, n_bytes, image_token, path);
}

int tokenizer_create_model(struct tokenizer **out, const void *bytes, size_t n_bytes,
                           int32_t image_token, const char *name)
{
    char *copy;

    if (n_bytes < 1 || n_bytes > MAX_FILE_BYTES)
        return FAIL(ERR_MODEL, "%s: %zu bytes; a tokenizer.model has 1 to %d", name, n_bytes,
                    MAX_FILE_BYTES);
    copy = malloc(n_bytes);
    if (!copy)
        return FAIL(ERR_NOMEM, "%s: %zu bytes", name, n_bytes);
    memcpy(copy, bytes, n_bytes);
    return create_model(out, copy, n_bytes, image_token, name);
}

int tokenizer_create_bytes(struct tokenizer **out, int32_t image_token)
{
    struct tokenizer *t = calloc(1, sizeof *t);
    int rc;

    if (!t)
        return FAIL(ERR_NOMEM, "byte tokenizer");
    TRY_GOTO(vocab_make_bytes(&t->vocab, image_token), close_t);
    TRY_GOTO(literals_init(&t->literals, &t->vocab, "byte tokenizer"), close_t);
    *out = t;
    return OK;
close_t:
    tokenizer_close(t);
    return rc;
}

void tokenizer_close(struct tokenizer *t)
{
    if (!t)
        return;
    sp_free(t->sp);
    literals_release(&t->literals);
    vocab_release(&t->vocab);
    free(t->file);
    free(t);
}

int32_t tokenizer_n_pieces(const struct tokenizer *t)
{
    return t->vocab.n - 1;
}

const char *tokenizer_library(void)
{
    return "0.1.97";
}

/* ---- text to ids ---- */

struct id_list {
    int32_t *ids; /* borrowed, [cap] */
    size_t cap, n;
};

static int no_room(const struct id_list *list)
{
    return FAIL(ERR_INPUT, "the text has more than the %zu tokens there is room for", list->cap);
}

static int append(struct id_list *list, int32_t id)
{
    if (list->n == list->cap)
        return no_room(list);
    list->ids[list->n++] = id;
    return OK;
}

/* Text without literals, n_bytes may be 0. */
static int encode_plain(const struct tokenizer *t, const char *text, size_t n_bytes,
                        struct id_list *list)
{
    size_t n = 0;
    int sp;

    if (n_bytes == 0)
        return OK;
    if (!t->sp) {
        for (size_t i = 0; i < n_bytes; i++)
            TRY(append(list, t->vocab.byte_ids[(unsigned char)text[i]]));
        return OK;
    }
    sp = sp_encode(t->sp, text, n_bytes, list->ids + list->n, list->cap - list->n, &n);
    if (sp == SP_TOO_SMALL)
        return no_room(list);
    if (sp == SP_NOMEM)
        return FAIL(ERR_NOMEM, "encoding %zu bytes of text", n_bytes);
    if (sp != SP_OK)
        return FAIL(ERR_INPUT, "SentencePiece cannot encode %zu bytes of text", n_bytes);
    list->n += n;
    return OK;
}

static int encode_valid(const struct tokenizer *t, const char *text, size_t n_bytes, unsigned flags,
                        struct id_list *list)
{
    const bool with_special = flags & TOKENIZER_PARSE_SPECIAL;
    size_t plain = 0, i = 0;

    while (i < n_bytes) {
        const struct literal *found =
            literals_match(&t->literals, text + i, n_bytes - i, with_special);

        if (!found) {
            i++;
            continue;
        }
        TRY(encode_plain(t, text + plain, i - plain, list));
        TRY(append(list, found->id));
        i += found->n_bytes;
        plain = i;
    }
    return encode_plain(t, text + plain, n_bytes - plain, list);
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n_bytes, unsigned flags,
                     int32_t *ids, size_t cap, size_t *n_ids)
{
    struct id_list list = {ids, cap, *n_ids};
    char *valid;
    size_t n_valid;
    int rc;

    if (n_bytes > TOKENIZER_MAX_BYTES)
        return FAIL(ERR_INPUT, "a text of %zu bytes; at most %d are encoded", n_bytes,
                    TOKENIZER_MAX_BYTES);
    if (utf8_is_valid(text, n_bytes)) {
        TRY(encode_valid(t, text, n_bytes, flags, &list));
        *n_ids = list.n;
        return OK;
    }
    TRY(size_mul(&n_valid, n_bytes, UTF8_REPLACEMENT_BYTES, "text with U+FFFD"));
    valid = malloc(n_valid);
    if (!valid)
        return FAIL(ERR_NOMEM, "text of %zu bytes", n_valid);
    n_valid = utf8_replace(valid, text, n_bytes);
    TRY_GOTO(encode_valid(t, valid, n_valid, flags, &list), free_valid);
    *n_ids = list.n;
free_valid:
    free(valid);
    return rc;
}

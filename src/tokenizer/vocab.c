/* Pieces of a tokenizer.model, and the checks that make it Gemma's kind (see vocab.h).
 *
 * The file is one protobuf message: field 1, repeated, a piece {1 text, 2 score, 3 kind}; field 2
 * the trainer's settings, 3 the normaliser's, 5 the denormaliser's. libsentencepiece reads it too,
 * to encode; it is read here first because the library has no way to ask for these settings, does
 * not tell which pieces are user-defined, and must never see a file it could stumble over.
 *
 * A repeated settings field overrides the earlier one, as protobuf's rules for merging say. */
#include "vocab.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protobuf.h"
#include "status.h"
#include "utf8.h"

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3, MODEL_DENORMALIZER = 5 };
enum {
    TRAINER_MODEL_TYPE = 3,
    TRAINER_SUFFIX_SPACES = 24,
    TRAINER_BYTE_FALLBACK = 35,
    MODEL_TYPE_BPE = 2
};
enum {
    NORMALIZER_MAP = 2,
    NORMALIZER_DUMMY_PREFIX = 3,
    NORMALIZER_TRIM_SPACES = 4,
    NORMALIZER_ESCAPE_SPACES = 5
};

enum {
    ADDED_NAME_BYTES = 20, /* "<loc0000>" and its NUL; room for any int */
    GEMMA_BYTE_0 = 217,    /* id of byte 0x00 as published */
};

static const char image_name[] = "<image>";
static const struct {
    const char *text;
    uint8_t kind;
} first_pieces[] = {{"<pad>", PIECE_CONTROL},
                    {"<eos>", PIECE_CONTROL},
                    {"<bos>", PIECE_CONTROL},
                    {"<unk>", PIECE_UNKNOWN}};
enum { N_FIRST = sizeof first_pieces / sizeof *first_pieces };

/* Settings that change ids; initialised to the format's defaults. */
struct settings {
    uint64_t model_type, byte_fallback, suffix_spaces;
    uint64_t dummy_prefix, trim_spaces, escape_spaces;
    size_t map_bytes; /* of both normalisers' character maps: none = identity */
};
static const struct settings default_settings = {
    .model_type = 1, .dummy_prefix = 1, .trim_spaces = 1, .escape_spaces = 1};

static bool piece_is(const struct piece *p, const char *text)
{
    return p->text && p->n_bytes == strlen(text) && memcmp(p->text, text, p->n_bytes) == 0;
}

/* Pieces that transformers' tokenizer counts as special without their kind saying so. */
static bool is_hidden(const struct piece *p)
{
    return p->kind == PIECE_CONTROL || p->kind == PIECE_UNKNOWN || piece_is(p, "<mask>") ||
           piece_is(p, "<start_of_turn>") || piece_is(p, "<end_of_turn>");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x41>" -> 0x41; -1 for any other text. */
static int byte_of_name(const struct piece *p)
{
    int high, low;

    if (p->n_bytes != 6 || memcmp(p->text, "<0x", 3) != 0 || p->text[5] != '>')
        return -1;
    high = hex_digit(p->text[3]);
    low = hex_digit(p->text[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

static int read_piece(struct piece *p, const struct pb_field *message, int32_t id, const char *name)
{
    struct pb_reader r = pb_reader_of(message->bytes, message->n_bytes);
    uint64_t kind = PIECE_NORMAL;
    uint32_t score_bits = 0;
    struct pb_field f;
    float score;
    int more;

    while ((more = pb_next(&r, &f)) > 0) {
        if (f.number == 1 && f.wire == PB_BYTES) {
            p->text = (const char *)f.bytes;
            p->n_bytes = f.n_bytes < UINT32_MAX ? (uint32_t)f.n_bytes : UINT32_MAX;
        } else if (f.number == 2 && f.wire == PB_WORD32) {
            score_bits = (uint32_t)f.value;
        } else if (f.number == 3 && f.wire == PB_VARINT) {
            kind = f.value;
        }
    }
    memcpy(&score, &score_bits, sizeof score);
    if (more < 0 || !p->text || p->n_bytes == 0 || !utf8_is_valid(p->text, p->n_bytes))
        return FAIL(ERR_MODEL, "%s: piece %d has no valid text; the file is damaged", name, id);
    if (kind < PIECE_NORMAL || kind > PIECE_BYTE || !isfinite(score))
        return FAIL(ERR_MODEL, "%s: piece %d has kind %llu and score %g; the file is damaged", name,
                    id, (unsigned long long)kind, (double)score);
    p->kind = (uint8_t)kind;
    p->hidden = is_hidden(p);
    return OK;
}

static int read_trainer(struct settings *s, const struct pb_field *message)
{
    struct pb_reader r = pb_reader_of(message->bytes, message->n_bytes);
    struct pb_field f;
    int more;

    while ((more = pb_next(&r, &f)) > 0) {
        if (f.wire != PB_VARINT)
            continue;
        if (f.number == TRAINER_MODEL_TYPE)
            s->model_type = f.value;
        else if (f.number == TRAINER_SUFFIX_SPACES)
            s->suffix_spaces = f.value;
        else if (f.number == TRAINER_BYTE_FALLBACK)
            s->byte_fallback = f.value;
    }
    return more;
}

static int read_normalizer(struct settings *s, const struct pb_field *message)
{
    struct pb_reader r = pb_reader_of(message->bytes, message->n_bytes);
    struct pb_field f;
    int more;

    while ((more = pb_next(&r, &f)) > 0) {
        if (f.number == NORMALIZER_MAP && f.wire == PB_BYTES)
            s->map_bytes += f.n_bytes;
        else if (message->number == MODEL_DENORMALIZER || f.wire != PB_VARINT)
            continue;
        else if (f.number == NORMALIZER_DUMMY_PREFIX)
            s->dummy_prefix = f.value;
        else if (f.number == NORMALIZER_TRIM_SPACES)
            s->trim_spaces = f.value;
        else if (f.number == NORMALIZER_ESCAPE_SPACES)
            s->escape_spaces = f.value;
    }
    return more;
}

/* One walk over the whole file. pieces: [n_pieces], or NULL to count them only. */
static int read_fields(const void *bytes, size_t n_bytes, struct piece *pieces, int32_t *n_pieces,
                       struct settings *s, const char *name)
{
    struct pb_reader r = pb_reader_of(bytes, n_bytes);
    struct pb_field f;
    int32_t n = 0;
    int more, inner = 0;

    while ((more = pb_next(&r, &f)) > 0 && inner == 0) {
        if (f.wire != PB_BYTES)
            continue;
        if (f.number == MODEL_TRAINER)
            inner = read_trainer(s, &f);
        else if (f.number == MODEL_NORMALIZER || f.number == MODEL_DENORMALIZER)
            inner = read_normalizer(s, &f);
        if (f.number != MODEL_PIECE)
            continue;
        if (n == VOCAB_MAX)
            return FAIL(ERR_MODEL, "%s: more than %d pieces", name, VOCAB_MAX);
        if (pieces)
            TRY(read_piece(&pieces[n], &f, n, name));
        n++;
    }
    if (more < 0 || inner < 0)
        return FAIL(ERR_MODEL, "%s: not a SentencePiece model, or damaged near byte %zu of %zu",
                    name, (size_t)(r.at - (const unsigned char *)bytes), n_bytes);
    *n_pieces = n;
    return OK;
}

static int check_settings(const struct settings *s, const char *name)
{
    if (s->model_type != MODEL_TYPE_BPE)
        return FAIL(ERR_MODEL, "%s: model type %llu, but Gemma's tokenizer is BPE (2)", name,
                    (unsigned long long)s->model_type);
    if (!s->byte_fallback)
        return FAIL(ERR_MODEL, "%s: no byte fallback; Gemma's tokenizer has it", name);
    if (s->map_bytes > 0)
        return FAIL(ERR_MODEL, "%s: the text normaliser is not the identity", name);
    if (s->dummy_prefix || s->trim_spaces || !s->escape_spaces || s->suffix_spaces)
        return FAIL(
            ERR_MODEL,
            "%s: spaces are not treated as in Gemma's tokenizer (add_dummy_prefix %d, "
            "remove_extra_whitespaces %d, escape_whitespaces %d, treat_whitespace_as_suffix %d)",
            name, s->dummy_prefix != 0, s->trim_spaces != 0, s->escape_spaces != 0,
            s->suffix_spaces != 0);
    return OK;
}

static int index_bytes(struct vocab *v, const char *name)
{
    bool has_tab = false;

    memset(v->byte_ids, -1, sizeof v->byte_ids);
    for (int32_t id = 0; id < v->n_in_file; id++) {
        struct piece *p = &v->pieces[id];
        int byte;

        has_tab = has_tab || piece_is(p, "\t");
        if (p->kind != PIECE_BYTE)
            continue;
        byte = byte_of_name(p);
        if (byte < 0 || v->byte_ids[byte] >= 0)
            return FAIL(ERR_MODEL, "%s: byte piece %d is not one of <0x00> to <0xFF>, each once",
                        name, id);
        p->byte = (uint8_t)byte;
        v->byte_ids[byte] = id;
    }
    for (int byte = 0; byte < 256; byte++)
        if (v->byte_ids[byte] < 0)
            return FAIL(ERR_MODEL, "%s: the piece <0x%02X> is missing", name, (unsigned)byte);
    /* transformers renames the piece of byte 9 to a tab where no piece is a tab already; decoding
     * then takes it for text, not for a part of a run of bytes. */
    if (!has_tab) {
        struct piece *p = &v->pieces[v->byte_ids['\t']];

        p->kind = PIECE_NORMAL;
        p->text = "\t";
        p->n_bytes = 1;
    }
    return OK;
}

static int check_first(const struct vocab *v, const char *name)
{
    for (int32_t id = 0; id < N_FIRST; id++) {
        const struct piece *p = &v->pieces[id];

        if (!piece_is(p, first_pieces[id].text) || p->kind != first_pieces[id].kind)
            return FAIL(ERR_MODEL, "%s: piece %d is '%.*s' of kind %d, but %s is expected there",
                        name, id, (int)(p->n_bytes < 32 ? p->n_bytes : 32), p->text, p->kind,
                        first_pieces[id].text);
    }
    return OK;
}

static void put_piece(struct piece *p, const char *text, enum piece_kind kind)
{
    *p = (struct piece){.text = text, .n_bytes = (uint32_t)strlen(text), .kind = (uint8_t)kind};
    p->hidden = is_hidden(p);
}

/* Names <loc....>, <seg...> and <image>: completes a table that lacks them, checks one that has
 * them. */
static int add_names(struct vocab *v, int32_t image_token, const char *name)
{
    const int32_t base = image_token - VOCAB_N_ADDED;

    v->added_names = calloc(VOCAB_N_ADDED, ADDED_NAME_BYTES);
    if (!v->added_names)
        return FAIL(ERR_NOMEM, "names of %d tokens", VOCAB_N_ADDED);
    for (int i = 0; i < VOCAB_N_ADDED; i++) {
        char *text = v->added_names + (size_t)i * ADDED_NAME_BYTES;
        struct piece *p = &v->pieces[base + i];

        if (i < VOCAB_N_LOC)
            snprintf(text, ADDED_NAME_BYTES, "<loc%04d>", i);
        else
            snprintf(text, ADDED_NAME_BYTES, "<seg%03d>", i - VOCAB_N_LOC);
        if (base + i >= v->n_in_file)
            put_piece(p, text, PIECE_USER);
        else if (!piece_is(p, text) || p->kind != PIECE_USER)
            return FAIL(ERR_MODEL,
                        "%s: piece %d is '%.*s' of kind %d, but %s is expected %d before <image>",
                        name, base + i, (int)(p->n_bytes < 32 ? p->n_bytes : 32), p->text, p->kind,
                        text, VOCAB_N_ADDED - i);
    }
    put_piece(&v->pieces[image_token], image_name, PIECE_CONTROL);
    return OK;
}

static int check_image_token(int32_t image_token, const char *name)
{
    if (image_token < VOCAB_N_ADDED || image_token >= VOCAB_MAX)
        return FAIL(ERR_MODEL, "%s: <image> cannot have the id %d", name, image_token);
    return OK;
}

int vocab_read_model(struct vocab *v, const void *bytes, size_t n_bytes, int32_t image_token,
                     const char *name)
{
    struct settings s = default_settings;
    struct vocab fresh = {0};
    int rc;

    TRY(check_image_token(image_token, name));
    TRY(read_fields(bytes, n_bytes, NULL, &fresh.n_in_file, &s, name));
    TRY(check_settings(&s, name));
    if (fresh.n_in_file < N_FIRST ||
        (fresh.n_in_file != image_token && fresh.n_in_file != image_token - VOCAB_N_ADDED))
        return FAIL(ERR_MODEL,
                    "%s: %d pieces do not go with <image> as token %d (config.json); there should "
                    "be %d, or %d without <loc> and <seg>",
                    name, fresh.n_in_file, image_token, image_token, image_token - VOCAB_N_ADDED);
    fresh.n = image_token + 1;
    fresh.pieces = calloc((size_t)fresh.n, sizeof *fresh.pieces);
    if (!fresh.pieces)
        return FAIL(ERR_NOMEM, "%s: %d pieces", name, fresh.n);
    TRY_GOTO(read_fields(bytes, n_bytes, fresh.pieces, &fresh.n_in_file, &s, name), release_fresh);
    TRY_GOTO(check_first(&fresh, name), release_fresh);
    TRY_GOTO(add_names(&fresh, image_token, name), release_fresh);
    TRY_GOTO(index_bytes(&fresh, name), release_fresh);
    *v = fresh;
    return OK;
release_fresh:
    vocab_release(&fresh);
    return rc;
}

int vocab_make_bytes(struct vocab *v, int32_t image_token)
{
    static const char name[] = "byte tokenizer";
    struct vocab fresh = {0};
    int rc;

    TRY(check_image_token(image_token, name));
    if (image_token - VOCAB_N_ADDED < GEMMA_BYTE_0 + 256)
        return FAIL(ERR_MODEL,
                    "%s: <image> as token %d leaves no room for 256 bytes from id %d and %d more",
                    name, image_token, GEMMA_BYTE_0, VOCAB_N_ADDED);
    fresh.n = image_token + 1;
    fresh.pieces = calloc((size_t)fresh.n, sizeof *fresh.pieces);
    if (!fresh.pieces)
        return FAIL(ERR_NOMEM, "%s: %d pieces", name, fresh.n);
    for (int id = 0; id < N_FIRST; id++)
        put_piece(&fresh.pieces[id], first_pieces[id].text, first_pieces[id].kind);
    for (int byte = 0; byte < 256; byte++) {
        fresh.pieces[GEMMA_BYTE_0 + byte] =
            (struct piece){.kind = PIECE_BYTE, .byte = (uint8_t)byte};
        fresh.byte_ids[byte] = GEMMA_BYTE_0 + byte;
    }
    put_piece(&fresh.pieces[fresh.byte_ids['\t']], "\t", PIECE_NORMAL); /* as in index_bytes */
    TRY_GOTO(add_names(&fresh, image_token, name), release_fresh);
    *v = fresh;
    return OK;
release_fresh:
    vocab_release(&fresh);
    return rc;
}

void vocab_release(struct vocab *v)
{
    free(v->pieces);
    free(v->added_names);
    *v = (struct vocab){0};
}

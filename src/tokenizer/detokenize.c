/* Ids -> text with transformers' rules (decode(skip_special_tokens=True)).
 *
 * Hidden ids are dropped first, then the texts are concatenated, U+2581 as a space. Neighbouring
 * byte pieces form a run, also across a dropped id. A run that is valid UTF-8 as a whole is text;
 * otherwise every byte of it becomes U+FFFD, also those of valid characters in it. (SentencePiece
 * would replace the bad ones only.)
 *
 * The room needed is bounded before anything is written, so a run can be rewritten in place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"
#include "tokenizer_impl.h"
#include "utf8.h"

enum { SPACE_BYTES = 3, NUMBER_BYTES = 13 }; /* U+2581; "<-2147483648>" */

struct output {
    char *text;
    size_t n;
    size_t run; /* where the open run of bytes begins; == n: none is open */
};

/* NULL for an id that only a synthetic model can produce. */
static const struct piece *find_piece(const struct tokenizer *t, int32_t id)
{
    const struct piece *p = id >= 0 && id < t->vocab.n ? &t->vocab.pieces[id] : NULL;

    return p && (p->text || p->kind == PIECE_BYTE) ? p : NULL;
}

static int room_needed(const struct tokenizer *t, const int32_t *ids, size_t n_ids, size_t *room)
{
    size_t sum = 1;

    for (size_t i = 0; i < n_ids; i++) {
        const struct piece *p = find_piece(t, ids[i]);
        size_t n = UTF8_REPLACEMENT_BYTES;

        if (!p)
            n = NUMBER_BYTES;
        else if (p->kind != PIECE_BYTE)
            n = p->n_bytes;
        TRY(size_add(&sum, sum, n, "decoded text"));
    }
    *room = sum;
    return OK;
}

static void close_run(struct output *o)
{
    const size_t n_bytes = o->n - o->run;

    if (n_bytes > 0 && !utf8_is_valid(o->text + o->run, n_bytes)) {
        o->n = o->run;
        for (size_t i = 0; i < n_bytes; i++, o->n += UTF8_REPLACEMENT_BYTES)
            utf8_put_replacement(o->text + o->n);
    }
    o->run = o->n;
}

static void put_text(struct output *o, const char *text, size_t n_bytes)
{
    close_run(o);
    for (size_t i = 0; i < n_bytes;) {
        if (n_bytes - i >= SPACE_BYTES && memcmp(text + i, "\xE2\x96\x81", SPACE_BYTES) == 0) {
            o->text[o->n++] = ' ';
            i += SPACE_BYTES;
        } else {
            o->text[o->n++] = text[i++];
        }
    }
    o->run = o->n;
}

static void put_id(struct output *o, const struct tokenizer *t, int32_t id)
{
    const struct piece *p = find_piece(t, id);
    char number[NUMBER_BYTES + 1];

    if (!p) {
        /* transformers drops ids it does not know; a model without a vocabulary shows them. */
        if (!t->sp)
            put_text(o, number, (size_t)snprintf(number, sizeof number, "<%d>", id));
    } else if (p->hidden) {
        return;
    } else if (p->kind == PIECE_BYTE) {
        o->text[o->n++] = (char)p->byte;
    } else {
        put_text(o, p->text, p->n_bytes);
    }
}

int tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, char **out,
                     size_t *n_bytes)
{
    struct output o = {0};
    size_t room = 0;

    TRY(room_needed(t, ids, n_ids, &room));
    o.text = malloc(room);
    if (!o.text)
        return FAIL(ERR_NOMEM, "text of %zu tokens", n_ids);
    for (size_t i = 0; i < n_ids; i++)
        put_id(&o, t, ids[i]);
    close_run(&o);
    o.text[o.n] = '\0';
    *out = o.text;
    *n_bytes = o.n;
    return OK;
}

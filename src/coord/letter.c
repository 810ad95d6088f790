/* Letters as bytes; see letter.h.
 *
 *     WORK     todo[n_records], padded to 8 bytes; the sample as sample_write gives it
 *     RESULT   struct wire_result; its texts one after the other, each with a NUL; its tokens
 *
 * A text that is NULL has length ABSENT. */
#include "letter.h"

#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"

struct letter *letter_create(enum letter_kind kind, int replica, size_t n_bytes)
{
    struct letter *l = calloc(1, sizeof *l + n_bytes);

    if (!l) {
        FAIL(ERR_NOMEM, "a letter of %zu bytes", n_bytes);
        return NULL;
    }
    l->item.kind = (int32_t)kind;
    l->item.n_bytes = sizeof *l + n_bytes;
    l->replica = replica;
    l->n_bytes = n_bytes;
    return l;
}

void letter_free(struct item *i)
{
    free(i);
}

int letter_adopt(struct letter **out, void *data, size_t n_bytes)
{
    struct letter *l = data;

    if (n_bytes < sizeof *l || l->n_bytes != n_bytes - sizeof *l || l->item.kind < 0 ||
        l->item.kind >= ITEM_PREPARED) {
        free(data);
        return FAIL(ERR_COMM, "%zu bytes came that are no letter", n_bytes);
    }
    l->item.next = NULL;
    l->item.n_bytes = n_bytes;
    *out = l;
    return OK;
}

/* ---- work ---- */

struct letter *letter_of_work(int replica, const struct sample *s, const uint8_t *todo)
{
    const size_t todo_bytes = size_align(s->n_records, sizeof(int64_t));
    struct letter *l = letter_create(LETTER_WORK, replica, todo_bytes + sample_wire_bytes(s));

    if (!l)
        return NULL;
    memcpy(l->payload, todo, s->n_records);
    sample_write(s, (char *)l->payload + todo_bytes);
    l->value = (int64_t)s->n_records;
    return l;
}

int letter_read_work(const struct letter *l, struct sample **s, const uint8_t **todo)
{
    struct sample *read;
    size_t todo_bytes;

    if (l->value < 1 || (uint64_t)l->value > l->n_bytes)
        return FAIL(ERR_COMM, "work of %lld records in %llu bytes", (long long)l->value,
                    (unsigned long long)l->n_bytes);
    todo_bytes = size_align((size_t)l->value, sizeof(int64_t));
    if (todo_bytes > l->n_bytes)
        return FAIL(ERR_COMM, "work of %lld records is cut off", (long long)l->value);
    TRY(sample_read(&read, (const char *)l->payload + todo_bytes, (size_t)l->n_bytes - todo_bytes));
    if (read->n_records != (size_t)l->value) {
        sample_free(read);
        return FAIL(ERR_COMM, "a sample of other than %lld records", (long long)l->value);
    }
    *s = read;
    *todo = (const uint8_t *)l->payload;
    return OK;
}

/* ---- results ---- */

enum { N_TEXTS = 7 };
static const uint64_t ABSENT = UINT64_MAX;

struct wire_result {
    struct replica_times times;
    struct result result;     /* its pointers mean nothing */
    uint64_t n_text[N_TEXTS]; /* without the NUL; or ABSENT */
};

/* The texts of a result, in the order of the wire. The answer may hold NULs: its length is its
 * own. */
static void texts_of(struct result *r, const char **text[N_TEXTS])
{
    const char **const all[N_TEXTS] = {&r->id,     &r->why,    &r->image, &r->image_id,
                                       &r->prompt, &r->suffix, &r->text};

    memcpy(text, all, sizeof all);
}

struct letter *letter_of_result(int replica, const struct result *r,
                                const struct replica_times *times)
{
    struct wire_result wire = {.times = *times, .result = *r};
    const char **text[N_TEXTS];
    size_t n_bytes = sizeof wire + r->n_tokens * sizeof *r->tokens;
    struct letter *l;
    char *at;

    texts_of(&wire.result, text);
    for (size_t i = 0; i < N_TEXTS; i++) {
        const char *s = *text[i];

        wire.n_text[i] = !s ? ABSENT : text[i] == &wire.result.text ? r->n_text : strlen(s);
        n_bytes += s ? (size_t)wire.n_text[i] + 1 : 0;
    }
    l = letter_create(LETTER_RESULT, replica, n_bytes);
    if (!l)
        return NULL;
    at = (char *)l->payload;
    memcpy(at, &wire, sizeof wire);
    at += sizeof wire;
    if (r->n_tokens > 0)
        memcpy(at, r->tokens, r->n_tokens * sizeof *r->tokens); /* in front: texts end anywhere */
    at += r->n_tokens * sizeof *r->tokens;
    for (size_t i = 0; i < N_TEXTS; i++) {
        if (*text[i]) {
            memcpy(at, *text[i], (size_t)wire.n_text[i]); /* letter_create has zeroed the rest */
            at += wire.n_text[i] + 1;
        }
    }
    return l;
}

int letter_read_result(const struct letter *l, struct result *r, struct replica_times *times)
{
    const char *at = (const char *)l->payload;
    const char **text[N_TEXTS];
    struct wire_result wire;
    size_t left = (size_t)l->n_bytes;

    if (left < sizeof wire)
        return FAIL(ERR_COMM, "a result of %zu bytes", left);
    memcpy(&wire, at, sizeof wire);
    at += sizeof wire;
    left -= sizeof wire;
    if (wire.result.n_tokens > left / sizeof *wire.result.tokens)
        return FAIL(ERR_COMM, "a result whose tokens are cut off");
    wire.result.tokens = (const int32_t *)at;
    at += wire.result.n_tokens * sizeof *wire.result.tokens;
    left -= wire.result.n_tokens * sizeof *wire.result.tokens;
    texts_of(&wire.result, text);
    for (size_t i = 0; i < N_TEXTS; i++) {
        *text[i] = wire.n_text[i] == ABSENT ? NULL : at;
        if (!*text[i])
            continue;
        if (wire.n_text[i] >= left || at[wire.n_text[i]] != '\0')
            return FAIL(ERR_COMM, "a result whose texts are cut off");
        at += wire.n_text[i] + 1;
        left -= (size_t)wire.n_text[i] + 1;
    }
    *r = wire.result;
    *times = wire.times;
    return OK;
}

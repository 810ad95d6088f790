/* The prompt as PaliGemmaProcessor lays it out:
 *
 *   text before the last marker, each <image> as n_patches image tokens | <bos> | rest + "\n"
 *
 * The newline is appended to the rest before encoding, as transformers does: a text that already
 * ends in one gets the token for two. What stands between two markers stays before <bos>. Each
 * stretch of text is encoded alone, since a special token ends every merge. */
#include <stdlib.h>
#include <string.h>

#include "sizes.h"
#include "status.h"
#include "tokenizer.h"
#include "utf8.h"

static const char marker[] = "<image>";
enum { MARKER_BYTES = sizeof marker - 1 };

struct prompt {
    const struct tokenizer *tokenizer;
    unsigned flags;
    int n_patches;
    int32_t image_token;
    int32_t *ids; /* [cap] */
    size_t cap, n;
};

static const char *find_marker(const char *text, const char *end)
{
    for (; end - text >= MARKER_BYTES; text++) {
        text = memchr(text, marker[0], (size_t)(end - text));
        if (!text || end - text < MARKER_BYTES)
            return NULL;
        if (memcmp(text, marker, MARKER_BYTES) == 0)
            return text;
    }
    return NULL;
}

static int count_markers(const char *text, size_t n_bytes)
{
    const char *end = text + n_bytes;
    int n = 0;

    while ((text = find_marker(text, end)) != NULL) {
        text += MARKER_BYTES;
        n++;
    }
    return n;
}

static int check_text(const char *text, size_t n_bytes, int n_images)
{
    int n_markers;

    if (n_images < 1)
        return FAIL(ERR_INPUT, "prompt: %d images; at least one is needed", n_images);
    if (n_bytes > PROMPT_MAX_BYTES)
        return FAIL(ERR_INPUT, "prompt: %zu bytes; at most %d are read", n_bytes, PROMPT_MAX_BYTES);
    if (memchr(text, '\0', n_bytes))
        return FAIL(ERR_INPUT, "prompt: it contains a NUL byte");
    if (!utf8_is_valid(text, n_bytes))
        return FAIL(ERR_INPUT, "prompt: it is not valid UTF-8");
    n_markers = count_markers(text, n_bytes);
    if (n_markers != 0 && n_markers != n_images)
        return FAIL(ERR_INPUT, "prompt: %d <image> marker(s), but %d image(s)", n_markers,
                    n_images);
    return OK;
}

static void put_image(struct prompt *p)
{
    for (int i = 0; i < p->n_patches; i++)
        p->ids[p->n++] = p->image_token;
}

static int put_text(struct prompt *p, const char *text, size_t n_bytes)
{
    return tokenizer_encode(p->tokenizer, text, n_bytes, p->flags, p->ids, p->cap, &p->n);
}

static int put_rest(struct prompt *p, const char *text, size_t n_bytes)
{
    char *line = malloc(n_bytes + 1);
    int rc;

    if (!line)
        return FAIL(ERR_NOMEM, "prompt of %zu bytes", n_bytes);
    memcpy(line, text, n_bytes);
    line[n_bytes] = '\n';
    rc = put_text(p, line, n_bytes + 1);
    free(line);
    return rc;
}

static int put_all(struct prompt *p, const char *text, size_t n_bytes, int n_images, int32_t bos)
{
    const char *end = text + n_bytes, *found = find_marker(text, end);

    if (!found)
        for (int i = 0; i < n_images; i++)
            put_image(p);
    for (; found; found = find_marker(text, end)) {
        TRY(put_text(p, text, (size_t)(found - text)));
        put_image(p);
        text = found + MARKER_BYTES;
    }
    p->ids[p->n++] = bos;
    return put_rest(p, text, (size_t)(end - text));
}

int prompt_build(const struct tokenizer *t, const char *text, size_t n_bytes, int n_images,
                 int n_patches, int32_t image_token, int32_t bos, unsigned flags, int32_t **ids,
                 size_t *n_ids)
{
    struct prompt p = {
        .tokenizer = t, .flags = flags, .n_patches = n_patches, .image_token = image_token};
    int rc;

    ASSERT(n_patches >= 1);
    TRY(check_text(text, n_bytes, n_images));
    /* A token of text is at least one byte of it: room for images, text, <bos> and newline. */
    TRY(size_mul(&p.cap, (size_t)n_images, (size_t)n_patches, "image tokens"));
    TRY(size_add(&p.cap, p.cap, n_bytes + 2, "tokens of the prompt"));
    p.ids = calloc(p.cap, sizeof *p.ids);
    if (!p.ids)
        return FAIL(ERR_NOMEM, "prompt of %zu tokens", p.cap);
    TRY_GOTO(put_all(&p, text, n_bytes, n_images, bos), free_ids);
    *ids = p.ids;
    *n_ids = p.n;
    return OK;
free_ids:
    free(p.ids);
    return rc;
}

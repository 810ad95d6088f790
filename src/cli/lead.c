/* Rank 0's reading for all ranks; see lead.h. Everything that crosses is a fixed-size header
 * followed, when that says OK, by bytes whose number it gives. */
#include "lead.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "file.h"
#include "sizes.h"
#include "status.h"

struct header {
    struct note note;
    uint64_t n; /* bytes of a file, ids of a prompt */
    struct image_info info;
    int64_t decode_us;
};

static bool is_lead(struct comm *c)
{
    return comm_rank(c) == 0;
}

static void note_failure(struct note *n, int rc)
{
    n->rc = rc;
    if (rc != OK)
        snprintf(n->text, sizeof n->text, "%s", log_last_error());
}

/* Returns what is not the record's alone. */
static int share_header(struct comm *c, struct header *h)
{
    TRY(comm_bcast(c, h, sizeof *h, 0));
    return h->note.rc == ERR_INPUT ? OK : h->note.rc;
}

/* ---- life ---- */

static int open_tokenizer(struct lead *l, const struct options *o, const struct weights *w)
{
    const void *bytes;
    size_t n;

    if (o->tokenizer)
        return tokenizer_open(&l->tokenizer, o->tokenizer, l->image_token);
    if (weights_is_synthetic(w))
        return tokenizer_create_bytes(&l->tokenizer, l->image_token);
    weights_carried(w, "tokenizer.model", &bytes, &n);
    if (bytes)
        return tokenizer_create_model(&l->tokenizer, bytes, n, l->image_token, o->model);
    weights_carried(w, "config.json", &bytes, &n);
    if (bytes)
        return FAIL(ERR_MODEL, "%s: carries no tokenizer.model; name its folder with --tokenizer",
                    o->model);
    return tokenizer_open(&l->tokenizer, o->model, l->image_token);
}

int lead_init(struct lead *l, const struct options *o, const struct model_config *cfg,
              const struct weights *w, struct comm *c, struct image_helper *h)
{
    *l = (struct lead){
        .comm = c,
        .helper = h,
        .image = {.out_px = cfg->vision.image_px,
                  .exif = (enum image_exif)o->exif,
                  .passes = (enum image_pass_order)o->passes},
        .n_patches = cfg->vision.n_patches,
        .image_token = cfg->image_token,
        .bos = cfg->bos,
        .flags = o->parse_special ? TOKENIZER_PARSE_SPECIAL : 0,
    };
    return comm_agree(c, is_lead(c) ? open_tokenizer(l, o, w) : OK);
}

void lead_release(struct lead *l)
{
    tokenizer_close(l->tokenizer);
    l->tokenizer = NULL;
}

/* ---- files ---- */

static int read_file(const char *path, size_t max_bytes, char **text, size_t *n_bytes)
{
    const int fd = file_open_read(path);

    if (fd < 0)
        return FAIL(ERR_INPUT, "%s: cannot be read: %m", path);
    return file_read_all(fd, path, max_bytes, ERR_INPUT, text, n_bytes);
}

int lead_read_file(struct comm *c, const char *path, size_t max_bytes, char **text, size_t *n_bytes)
{
    struct header h = {.note = {.rc = OK}};
    char *buf = NULL;
    size_t n = 0;
    int rc;

    if (is_lead(c))
        h.note.rc = read_file(path, max_bytes, &buf, &n);
    h.n = n;
    TRY_GOTO(comm_bcast(c, &h, sizeof h, 0), free_buf);
    TRY_GOTO(h.note.rc, free_buf);
    if (!is_lead(c))
        buf = malloc(h.n + 1);
    TRY_GOTO(comm_agree(c, buf ? OK : FAIL(ERR_NOMEM, "%s", path)), free_buf);
    TRY_GOTO(comm_bcast(c, buf, h.n + 1, 0), free_buf);
    *text = buf;
    *n_bytes = h.n;
    return OK;
free_buf:
    free(buf);
    return rc;
}

/* ---- records ---- */

int lead_prompt(const struct lead *l, const char *text, int n_images, int32_t **ids, size_t *n_ids,
                struct note *note)
{
    struct header h = {.note = {.rc = OK}};
    int32_t *list = NULL;
    size_t n = 0;
    int rc;

    if (is_lead(l->comm))
        note_failure(&h.note, prompt_build(l->tokenizer, text, strlen(text), n_images, l->n_patches,
                                           l->image_token, l->bos, l->flags, &list, &n));
    h.n = n;
    TRY_GOTO(share_header(l->comm, &h), free_list);
    *note = h.note;
    *ids = NULL;
    *n_ids = 0;
    if (h.note.rc != OK)
        return OK;
    if (!is_lead(l->comm))
        list = calloc(h.n, sizeof *list);
    TRY_GOTO(comm_agree(l->comm, list ? OK : FAIL(ERR_NOMEM, "prompt of %zu tokens", (size_t)h.n)),
             free_list);
    TRY_GOTO(comm_bcast(l->comm, list, h.n * sizeof *list, 0), free_list);
    *ids = list;
    *n_ids = h.n;
    return OK;
free_list:
    free(list);
    return rc;
}

int lead_image(const struct lead *l, const char *path, uint8_t *rgb, struct image_info *info,
               int64_t *decode_us, struct note *note)
{
    const size_t px = (size_t)l->image.out_px;
    struct header h = {.note = {.rc = OK}};
    int64_t start = clock_us();

    if (is_lead(l->comm))
        note_failure(&h.note, image_load(l->helper, path, &l->image, rgb, &h.info));
    h.decode_us = clock_us() - start;
    TRY(share_header(l->comm, &h));
    *note = h.note;
    *info = h.info;
    *decode_us = h.decode_us;
    return h.note.rc == OK ? comm_bcast(l->comm, rgb, px * px * 3, 0) : OK;
}

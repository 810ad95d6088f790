/* Pictures and prompts ahead of the compute; see prepare.h. */
#include "prepare.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sizes.h"
#include "status.h"

enum { LOOK_US = 200000 }; /* between two looks whether the run has ended */

void prepared_free(struct item *i)
{
    struct prepared *p = (struct prepared *)i;

    if (!p)
        return;
    for (size_t k = 0; p->record && k < p->sample->n_records; k++)
        free(p->record[k].ids);
    free(p->record);
    free(p->rgb);
    free(p->slot);
    sample_free(p->sample);
    free(p);
}

struct result prepared_result(const struct sample *s, size_t k, int replica)
{
    const struct sample_record *r = &s->record[k];

    return (struct result){
        .index = s->index + (int64_t)k,
        .id = r->id,
        .input = r->digest,
        .image = s->n_images > 0 ? s->image[0].name : NULL,
        .image_id = s->image_id,
        .number = r->number,
        .prompt = r->prompt,
        .suffix = r->suffix,
        .n_images = (int)s->n_images,
        .replica = replica,
    };
}

/* A record that cannot be answered, for the reason logged last on this thread. */
static int send_failure(struct preparer *p, const struct prepared *d, size_t k)
{
    const struct replica_times none = {0};
    struct result r = prepared_result(d->sample, k, p->replica);
    struct letter *l;

    r.rc = ERR_INPUT;
    r.why = log_last_error();
    r.decode_us = d->decode_us;
    l = letter_of_result(p->replica, &r, &none);
    if (!l)
        return ERR_NOMEM;
    if (!queue_put(p->out, &l->item))
        free(l); /* the run has ended: nobody wants to know */
    return OK;
}

/* ---- pictures ---- */

static int load(const struct preparer *p, const struct sample *s, size_t i, uint8_t *rgb,
                struct image_info *info)
{
    const struct dataset_image *image = &s->image[i];
    const struct image_clip clip = sample_clip(s);

    switch (image->kind) {
    case DATASET_IMAGE_FILE:
        return image_load(p->helper, image->path, &p->params->image, rgb, info);
    case DATASET_IMAGE_BYTES:
        return image_load_bytes(p->helper, image->path, image->bytes, image->n_bytes,
                                &p->params->image, rgb, info);
    case DATASET_IMAGE_RAW:
        return image_load_raw(image->path, image->bytes, image->width_px, image->height_px,
                              &p->params->image, rgb, info);
    case DATASET_IMAGE_VIDEO:
        return image_load_video(p->helper, image->path, &clip, &p->params->image, rgb, info);
    }
    return FAIL(ERR_INTERNAL, "an image of kind %d", (int)image->kind);
}

static int load_all(const struct preparer *p, struct prepared *d)
{
    const struct sample *s = d->sample;
    const size_t px = (size_t)p->params->image.out_px, picture_bytes = px * px * 3;
    const bool is_video = s->n_images == 1 && s->image[0].kind == DATASET_IMAGE_VIDEO;
    size_t n = is_video ? (size_t)s->n_frames : s->n_images;

    if (n < 1 || n > (size_t)p->params->max_images)
        return FAIL(ERR_INPUT, "%s: %zu pictures in one record; --max-images says %d", s->place, n,
                    p->params->max_images);
    d->n_images = (int)n;
    TRY(size_mul(&d->item.n_bytes, n, picture_bytes, "pictures"));
    d->rgb = malloc(d->item.n_bytes);
    d->slot = malloc(n * sizeof *d->slot);
    if (!d->rgb || !d->slot)
        return FAIL(ERR_NOMEM, "%zu pictures", n);
    for (size_t i = 0; i < n; i++)
        d->slot[i] = -1;
    for (size_t i = 0; i < s->n_images; i++) {
        struct image_info info = {0};

        TRY(load(p, s, i, d->rgb + i * picture_bytes, &info));
        if (i == 0)
            d->info = info;
    }
    return OK;
}

/* ---- prompts ---- */

static int build_prompt(const struct preparer *p, const struct prepared *d, size_t k)
{
    const char *text = d->sample->record[k].prompt;
    struct prepared_record *r = &d->record[k];

    TRY(prompt_build(p->tokenizer, text, strlen(text), d->n_images, p->cfg->vision.n_patches,
                     p->cfg->image_token, p->cfg->bos, p->params->tokenizer_flags, &r->ids,
                     &r->n_ids));
    if (r->n_ids <= (size_t)p->params->max_prompt_tokens)
        return OK;
    free(r->ids);
    r->ids = NULL;
    return FAIL(ERR_INPUT,
                "%s: a prompt of %zu tokens, images included; there is room for %d (see "
                "--max-text-tokens)",
                d->sample->place, r->n_ids, p->params->max_prompt_tokens);
}

/* ---- samples ---- */

/* Fills d in. Codes other than ERR_INPUT, which has cost its records, end the run. */
static int prepare(struct preparer *p, struct prepared *d, const uint8_t *todo)
{
    const int64_t start = clock_us();
    int rc = load_all(p, d);

    d->decode_us = clock_us() - start;
    if (rc != OK && rc != ERR_INPUT)
        return rc;
    for (size_t k = 0; k < d->sample->n_records; k++) {
        int rc_record = rc;

        if (!todo[k])
            continue;
        if (rc == OK)
            rc_record = build_prompt(p, d, k);
        if (rc_record == ERR_INPUT)
            TRY(send_failure(p, d, k));
        else
            TRY(rc_record);
        d->n_todo += rc_record == OK;
    }
    d->n_open = d->n_todo;
    return OK;
}

static int take_work(struct preparer *p, struct letter *l)
{
    struct prepared *d = calloc(1, sizeof *d);
    const uint8_t *todo;
    int rc;

    if (!d)
        return FAIL(ERR_NOMEM, "a sample");
    TRY_GOTO(letter_read_work(l, &d->sample, &todo), free_d);
    d->item.kind = ITEM_PREPARED;
    d->arrived_us = clock_us();
    d->record = calloc(d->sample->n_records, sizeof *d->record);
    TRY_GOTO(d->record ? OK : FAIL(ERR_NOMEM, "%zu prompts", d->sample->n_records), free_d);
    TRY_GOTO(prepare(p, d, todo), free_d);
    if (d->n_todo > 0 && queue_put(p->desk, &d->item))
        return OK;
free_d:
    if (d->sample)
        prepared_free(&d->item);
    else
        free(d);
    return rc;
}

static void send_trouble(struct preparer *p, int trouble)
{
    struct letter *l = letter_create(LETTER_TROUBLE, p->replica, 0);

    if (!l)
        return;
    l->value = trouble;
    if (!queue_put_urgent(p->out, &l->item))
        free(l);
}

static void *prepare_all(void *context)
{
    struct preparer *p = context;
    int rc = OK;

    while (rc == OK) {
        struct item *i = queue_take(p->work, (unsigned)QUEUE_ANY, LOOK_US);

        if (!i && queue_is_closed(p->work))
            break;
        if (!i)
            continue;
        rc = queue_is_closed(p->work) ? OK : take_work(p, (struct letter *)i);
        letter_free(i);
    }
    if (rc != OK)
        send_trouble(p, rc);
    return NULL;
}

int preparer_start(struct preparer *p)
{
    if (pthread_create(&p->thread, NULL, prepare_all, p) != 0)
        return FAIL(ERR_NOMEM, "a thread that prepares samples");
    p->running = true;
    return OK;
}

void preparer_stop(struct preparer *p)
{
    if (p->running)
        pthread_join(p->thread, NULL);
    p->running = false;
}

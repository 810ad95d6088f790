/* COCO result files: captions, answers to questions, and detections.
 *
 *   coco_captions.json    [{"image_id", "caption"}]
 *   vqa.json              [{"question_id", "answer"}]
 *   coco_detections.json  [{"image_id", "category_id", "bbox": [x, y, w, h] px, "score"}]
 *
 * The image's id is the input's, else the record's id. The model gives no score for a box, so all
 * boxes of an answer share exp(logprob / tokens): the geometric mean of its tokens' probabilities.
 * It ranks answers, not boxes. Boxes without pixels (several images, unknown size) and boxes
 * of labels that --categories does not know are left out, counted, and told. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pack_impl.h"
#include "pack_labels.h"
#include "status.h"

static void put_image_id(FILE *f, const struct result *r)
{
    fputs("{\"image_id\":", f);
    sink_put_id(f, r->image_id ? r->image_id : r->id);
}

/* ---- captions ---- */

static int put_caption(struct sink *s, const struct pack_record *rec)
{
    FILE *f;

    if (rec->r->rc != OK)
        return OK;
    f = sink_item(s);
    put_image_id(f, rec->r);
    fputs(",\"caption\":", f);
    json_write_string(f, rec->r->text, rec->r->n_text);
    fputc('}', f);
    return OK;
}

const struct sink_ops pack_caption_ops = {
    .name = "coco_captions.json",
    .bit = RESULTS_COCO_CAPTION,
    .form = SINK_ARRAY,
    .put = put_caption,
};

/* ---- questions ---- */

static int put_answer(struct sink *s, const struct pack_record *rec)
{
    const struct result *r = rec->r;
    FILE *f;

    if (r->rc != OK)
        return OK;
    f = sink_item(s);
    fputs("{\"question_id\":", f);
    if (r->number >= 0)
        fprintf(f, "%lld", (long long)r->number);
    else
        sink_put_id(f, r->id);
    fputs(",\"answer\":", f);
    json_write_string(f, r->text, r->n_text);
    fputc('}', f);
    return OK;
}

const struct sink_ops pack_vqa_ops = {
    .name = "vqa.json",
    .bit = RESULTS_VQA,
    .form = SINK_ARRAY,
    .put = put_answer,
};

/* ---- detections ---- */

struct detection {
    struct labels *labels;
    int64_t n_without_pixels, n_unknown;
};

static int open_detection(struct sink *s)
{
    struct detection *d = calloc(1, sizeof *d);

    if (!d)
        return FAIL(ERR_NOMEM, "%s", s->ops->name);
    s->state = d;
    return labels_create(&d->labels, s->pack->params->categories);
}

static double score_of(const struct result *r)
{
    const double score = r->n_tokens > 0 ? exp(r->logprob / (double)r->n_tokens) : 0;

    return isfinite(score) ? score : 0;
}

static int put_box(struct sink *s, const struct result *r, const struct box *b)
{
    struct detection *d = s->state;
    const double x = (double)b->xyxy_px[0], y = (double)b->xyxy_px[1];
    int64_t category;
    FILE *f;

    TRY(labels_find(d->labels, b->label, b->n_label, &category));
    if (category < 0) {
        d->n_unknown++;
        return OK;
    }
    f = sink_item(s);
    put_image_id(f, r);
    fprintf(f,
            ",\"category_id\":%lld,\"bbox\":[%.2f,%.2f,%.2f,%.2f],\"score\":", (long long)category,
            x, y, (double)b->xyxy_px[2] - x, (double)b->xyxy_px[3] - y);
    json_write_real(f, score_of(r));
    fputc('}', f);
    return OK;
}

static int put_detections(struct sink *s, const struct pack_record *rec)
{
    struct detection *d = s->state;

    if (!rec->has_pixels) {
        d->n_without_pixels += (int64_t)rec->n_boxes;
        return OK;
    }
    for (size_t i = 0; i < rec->n_boxes; i++)
        TRY(put_box(s, rec->r, &rec->box[i]));
    return OK;
}

static int write_categories(const struct sink *s)
{
    const struct detection *d = s->state;
    struct results_file file;

    TRY(results_file_create(&file, s->pack->dir, "categories.json", s->pack->moments));
    labels_write(file.f, d->labels);
    return results_file_commit(&file);
}

static int finish_detection(struct sink *s)
{
    const struct detection *d = s->state;

    if (d->n_without_pixels > 0)
        log_root(LOG_WARN, "results", "%s: %lld boxes of several images or unknown size left out",
                 s->file.path, (long long)d->n_without_pixels);
    if (d->n_unknown > 0)
        log_root(LOG_WARN, "results", "%s: %lld boxes left out whose labels are not in %s",
                 s->file.path, (long long)d->n_unknown, s->pack->params->categories);
    return s->pack->params->categories ? OK : write_categories(s);
}

static void release_detection(struct sink *s)
{
    struct detection *d = s->state;

    if (!d)
        return;
    labels_destroy(d->labels);
    free(d);
}

const struct sink_ops pack_detection_ops = {
    .name = "coco_detections.json",
    .bit = RESULTS_COCO_DETECTION,
    .form = SINK_ARRAY,
    .open = open_detection,
    .put = put_detections,
    .finish = finish_detection,
    .release = release_detection,
};

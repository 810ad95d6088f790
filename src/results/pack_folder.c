/* metadata.jsonl of a Hugging Face imagefolder: file_name, text, and boxes as objects.
 *
 * Moved beside the pictures it makes a data set of them. file_name is the picture's name as the
 * input gave it. Boxes are [x, y, w, h] in pixels; their categories are the labels. A record
 * without one picture of known size has no objects; what is said of several pictures together is
 * true of none of them, so it is left out, counted, and told. */
#include <stdlib.h>
#include <string.h>

#include "pack_impl.h"
#include "status.h"

struct folder {
    int64_t n_several; /* records of several pictures */
};

static int open_folder(struct sink *s)
{
    s->state = calloc(1, sizeof(struct folder));
    return s->state ? OK : FAIL(ERR_NOMEM, "%s", s->ops->name);
}

static void put_objects(FILE *f, const struct pack_record *rec)
{
    fputs(",\"objects\":{\"bbox\":[", f);
    for (size_t i = 0; i < rec->n_boxes; i++) {
        const float *at = rec->box[i].xyxy_px;

        fprintf(f, "%s[%.2f,%.2f,%.2f,%.2f]", i ? "," : "", (double)at[0], (double)at[1],
                (double)at[2] - (double)at[0], (double)at[3] - (double)at[1]);
    }
    fputs("],\"categories\":[", f);
    for (size_t i = 0; i < rec->n_boxes; i++) {
        fputs(i ? "," : "", f);
        json_write_string(f, rec->box[i].label, rec->box[i].n_label);
    }
    fputs("]}", f);
}

static int put(struct sink *s, const struct pack_record *rec)
{
    const struct result *r = rec->r;
    struct folder *folder = s->state;
    FILE *f;

    if (r->rc != OK || !r->image)
        return OK;
    if (r->n_images != 1) {
        folder->n_several++;
        return OK;
    }
    f = sink_item(s);
    fputs("{\"file_name\":", f);
    json_write_string(f, r->image, strlen(r->image));
    fputs(",\"text\":", f);
    json_write_string(f, r->text, r->n_text);
    if (rec->n_boxes > 0 && rec->has_pixels)
        put_objects(f, rec);
    fputs("}\n", f);
    return OK;
}

static int finish(struct sink *s)
{
    const struct folder *folder = s->state;

    if (folder->n_several > 0)
        log_root(LOG_WARN, "results", "%s: %lld records of several pictures left out", s->file.path,
                 (long long)folder->n_several);
    return OK;
}

static void release(struct sink *s)
{
    free(s->state);
}

const struct sink_ops pack_folder_ops = {
    .name = "metadata.jsonl",
    .bit = RESULTS_FOLDER,
    .form = SINK_LINES,
    .open = open_folder,
    .put = put,
    .finish = finish,
    .release = release,
};

/* results.jsonl and errors.jsonl: one JSON object a record. The order of members is fixed, and
 * nothing in them depends on the machine, the number of ranks, or the attempt. */
#include <string.h>

#include "pack_impl.h"
#include "status.h"

static void put_text(FILE *f, const char *key, const char *s)
{
    fprintf(f, ",\"%s\":", key);
    if (s)
        json_write_string(f, s, strlen(s));
    else
        fputs("null", f);
}

static void put_ints(FILE *f, const char *key, const int *v, int n)
{
    fprintf(f, ",\"%s\":[", key);
    for (int i = 0; i < n; i++)
        fprintf(f, "%s%d", i ? "," : "", v[i]);
    fputc(']', f);
}

static void put_box(FILE *f, const struct box *b, bool has_pixels)
{
    fputs("{\"label\":", f);
    json_write_string(f, b->label, b->n_label);
    if (has_pixels)
        fprintf(f, ",\"xyxy\":[%.2f,%.2f,%.2f,%.2f]", (double)b->xyxy_px[0], (double)b->xyxy_px[1],
                (double)b->xyxy_px[2], (double)b->xyxy_px[3]);
    put_ints(f, "loc", b->loc, 4);
    if (b->n_seg > 0)
        put_ints(f, "seg", b->seg, b->n_seg);
    fputc('}', f);
}

static void put_boxes(FILE *f, const struct pack_record *rec)
{
    if (rec->n_boxes + rec->n_malformed == 0)
        return;
    fputs(",\"boxes\":[", f);
    for (size_t i = 0; i < rec->n_boxes; i++) {
        fputs(i ? "," : "", f);
        put_box(f, &rec->box[i], rec->has_pixels);
    }
    fprintf(f, "],\"malformed_boxes\":%zu", rec->n_malformed);
}

static void put_identity(FILE *f, const struct result *r)
{
    fprintf(f, "{\"index\":%lld,\"id\":", (long long)r->index);
    json_write_string(f, r->id, strlen(r->id));
    put_text(f, "image", r->image);
    put_text(f, "prompt", r->prompt);
}

static int put_result(struct sink *s, const struct pack_record *rec)
{
    const struct result *r = rec->r;
    FILE *f;

    if (r->rc != OK)
        return OK;
    f = sink_item(s);
    put_identity(f, r);
    if (r->suffix)
        put_text(f, "suffix", r->suffix);
    fputs(",\"text\":", f);
    json_write_string(f, r->text, r->n_text);
    fprintf(f, ",\"tokens\":%zu,\"token_ids\":[", r->n_tokens);
    for (size_t i = 0; i < r->n_tokens; i++)
        fprintf(f, "%s%d", i ? "," : "", (int)r->tokens[i]);
    fprintf(f, "],\"finish\":\"%s\",\"logprob\":", r->finish == RESULT_EOS ? "eos" : "length");
    json_write_real(f, r->logprob);
    put_boxes(f, rec);
    fputs("}\n", f);
    return OK;
}

static int put_error(struct sink *s, const struct pack_record *rec)
{
    FILE *f;

    if (rec->r->rc == OK)
        return OK;
    f = sink_item(s);
    put_identity(f, rec->r);
    put_text(f, "class", rec->class);
    put_text(f, "reason", rec->r->why);
    fputs("}\n", f);
    return OK;
}

const struct sink_ops pack_results_ops = {
    .name = "results.jsonl",
    .form = SINK_LINES,
    .put = put_result,
};

const struct sink_ops pack_errors_ops = {
    .name = "errors.jsonl",
    .form = SINK_LINES,
    .put = put_error,
};

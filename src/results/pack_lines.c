/* results.jsonl and errors.jsonl: one JSON object a record. The order of members is fixed, and
 * nothing in them depends on the machine, the number of ranks, or the attempt. */
#include <string.h>

#include "pack_impl.h"
#include "status.h"

static void put_text(FILE *f, const char *key, const char *s)
{
    if (s)
        json_member_string(f, key, s, strlen(s));
    else
        fprintf(f, ",\"%s\":null", key);
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
    json_member_string(f, "text", r->text, r->n_text);
    json_member_int(f, "tokens", (int64_t)r->n_tokens);
    json_member_ints(f, "token_ids", r->tokens, r->n_tokens);
    fprintf(f, ",\"finish\":\"%s\"", r->finish == RESULT_EOS ? "eos" : "length");
    json_member_real(f, "logprob", r->logprob);
    if (rec->n_boxes + rec->n_malformed > 0)
        boxes_write_json(f, rec->box, rec->n_boxes, rec->n_malformed, rec->has_pixels);
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

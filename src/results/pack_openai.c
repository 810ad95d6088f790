/* openai.jsonl: responses of the OpenAI batch API, found by custom_id, which is the record's id.
 *
 * A failed record has an error and no response. Ids of responses are made from the record's number
 * and `created` is 0, so that the file is the same whenever it is made. */
#include <string.h>

#include "pack_impl.h"
#include "status.h"

static void put_text(FILE *f, const char *s)
{
    json_write_string(f, s, strlen(s));
}

static void put_response(FILE *f, const struct result *r, const char *model)
{
    const size_t n_tokens = r->n_tokens;

    fprintf(f,
            ",\"response\":{\"status_code\":200,\"request_id\":\"req_%lld\",\"body\":{\"id\":"
            "\"chatcmpl-%lld\",\"object\":\"chat.completion\",\"created\":0,\"model\":",
            (long long)r->index, (long long)r->index);
    put_text(f, model);
    fputs(",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":", f);
    json_write_string(f, r->text, r->n_text);
    fprintf(f, "},\"logprobs\":null,\"finish_reason\":\"%s\"}]",
            r->finish == RESULT_EOS ? "stop" : "length");
    fprintf(f,
            ",\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%zu,\"total_tokens\":%zu}}},"
            "\"error\":null}\n",
            r->n_prompt_tokens, n_tokens, n_tokens + (size_t)r->n_prompt_tokens);
}

static int put(struct sink *s, const struct pack_record *rec)
{
    const char *model = settings_find(s->pack->settings, "model");
    const struct result *r = rec->r;
    FILE *f = sink_item(s);

    fprintf(f, "{\"id\":\"batch_req_%lld\",\"custom_id\":", (long long)r->index);
    put_text(f, r->id);
    if (r->rc == OK) {
        put_response(f, r, model ? model : "paligemma2");
        return OK;
    }
    fputs(",\"response\":null,\"error\":{\"code\":", f);
    put_text(f, rec->class);
    fputs(",\"message\":", f);
    put_text(f, r->why);
    fputs("}}\n", f);
    return OK;
}

const struct sink_ops pack_openai_ops = {
    .name = "openai.jsonl",
    .bit = RESULTS_OPENAI,
    .form = SINK_LINES,
    .put = put,
};

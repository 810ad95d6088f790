/* Output rows of `run`; see answers.h. Key order of the JSON objects is fixed. */
#include "answers.h"

#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "options.h"
#include "status.h"

/* ---- plain ---- */

static void print_escaped(FILE *f, const char *s, size_t n)
{
    static const char special[] = {'\n', '\t', '\r', '\\'}, letter[] = {'n', 't', 'r', '\\'};

    for (size_t i = 0; i < n; i++) {
        const char *at = memchr(special, s[i], sizeof special);

        if (at)
            fputc('\\', f);
        fputc(at ? letter[at - special] : s[i], f);
    }
}

static void print_tsv(FILE *f, const struct answer_row *r)
{
    for (size_t i = 0; i < r->n_images; i++) {
        if (i > 0)
            fputc(' ', f);
        print_escaped(f, r->image[i].name, strlen(r->image[i].name));
    }
    fputc('\t', f);
    print_escaped(f, r->prompt, strlen(r->prompt));
    fputc('\t', f);
    print_escaped(f, r->text, r->n_text);
    fputc('\n', f);
}

/* ---- JSON ---- */

/* "image": one name; several are "images": an array. */
static void print_images(FILE *f, const struct answer_row *r)
{
    if (r->n_images == 1) {
        json_member_string(f, "image", r->image[0].name, strlen(r->image[0].name));
        return;
    }
    fputs(",\"images\":[", f);
    for (size_t i = 0; i < r->n_images; i++) {
        fputs(i ? "," : "", f);
        json_write_string(f, r->image[i].name, strlen(r->image[i].name));
    }
    fputc(']', f);
}

static void print_sizes(FILE *f, const struct answer_row *r)
{
    const struct image_info *info = &r->picture[0].info;

    if (r->n_images == 1) {
        fprintf(f, ",\"width\":%d,\"height\":%d", info->width_px, info->height_px);
        return;
    }
    fputs(",\"sizes\":[", f);
    for (size_t i = 0; i < r->n_images; i++) {
        info = &r->picture[i].info;
        fprintf(f, "%s[%d,%d]", i ? "," : "", info->width_px, info->height_px);
    }
    fputc(']', f);
}

/* Which of several images a box lies in is not said in the answer, so there it has no pixels. */
static int print_boxes(FILE *f, const struct answer_row *r)
{
    const struct image_info *info = &r->picture[0].info;
    struct box *box;
    size_t n_malformed = 0, n;

    if (!strstr(r->text, "<loc"))
        return OK;
    n = boxes_parse(r->text, r->n_text, info->width_px, info->height_px, NULL, 0, &n_malformed);
    box = calloc(n + 1, sizeof *box);
    if (!box)
        return FAIL(ERR_NOMEM, "%zu boxes", n);
    boxes_parse(r->text, r->n_text, info->width_px, info->height_px, box, n, &n_malformed);
    boxes_write_json(f, box, n, n_malformed, r->n_images == 1);
    free(box);
    return OK;
}

static void print_answer(FILE *f, const struct answer_row *r)
{
    const struct answer *a = r->answer;

    json_member_string(f, "text", r->text, r->n_text);
    json_member_ints(f, "tokens", a->tokens, (size_t)a->n_tokens);
    json_member_real(f, "logprob", a->logprob);
    if (r->session->options->beams > 1)
        json_member_real(f, "score", a->score);
    fprintf(f, ",\"finish\":\"%s\"", a->finish == FINISH_EOS ? "eos" : "length");
}

/* Reading and encoding an image are paid once and told in each of its rows. */
static void print_times(FILE *f, const struct answer_row *r)
{
    int64_t decode_us = 0, vision_us = 0;

    for (size_t i = 0; i < r->n_images; i++) {
        decode_us += r->picture[i].decode_us;
        vision_us += r->picture[i].vision_us;
    }
    fprintf(f, ",\"ms\":{\"decode_image\":%.3f,\"vision\":%.3f,\"prefill\":%.3f,\"decode\":%.3f}",
            (double)decode_us / 1e3, (double)vision_us / 1e3, (double)r->answer->prefill_us / 1e3,
            (double)r->answer->decode_us / 1e3);
}

static void print_run(FILE *f, const struct answer_row *r)
{
    const struct session *s = r->session;
    const struct answers_memory *m = &r->memory;

    fprintf(f, ",\"window\":\"%s\"", s->options->window == DECODER_WINDOW_HF ? "hf" : "none");
    json_member_real(f, "attn_softcap", (double)s->cfg.text.attn_softcap);
    json_member_real(f, "logit_softcap", (double)s->cfg.text.logit_softcap);
    print_times(f, r);
    fprintf(f, ",\"ranks\":%d,\"device\":\"%s\",\"threads\":%d", comm_size(s->comm),
            ops_name(s->machine.device), s->machine.n_threads);
    json_member_string(f, "model", s->options->model, strlen(s->options->model));
    fprintf(f, ",\"weights\":\"%s\",\"activations\":\"%s\"", s->weights_held,
            session_activations(s->options));
    fprintf(f,
            ",\"memory\":{\"weights\":%lld,\"kv\":%lld,\"step\":%lld,\"features\":%lld,"
            "\"exchange\":%lld",
            (long long)m->weights, (long long)m->kv, (long long)m->step, (long long)m->features,
            (long long)m->exchange);
    fprintf(f, ",\"total\":%lld,\"peak_rss\":%lld}", (long long)m->total, (long long)m->peak_rss);
}

static int print_json(FILE *f, const struct answer_row *r)
{
    bool good = r->note->rc == OK;
    int rc = OK;

    fprintf(f, "{\"status\":\"%s\"", good ? "ok" : "error");
    print_images(f, r);
    json_member_string(f, "prompt", r->prompt, strlen(r->prompt));
    if (good) {
        print_answer(f, r);
        print_sizes(f, r);
        rc = print_boxes(f, r);
        print_run(f, r);
    } else {
        fprintf(f, ",\"code\":\"%s\"", status_name(r->note->rc));
        json_member_string(f, "error", r->note->text, strlen(r->note->text));
    }
    fputs("}\n", f);
    return rc;
}

int answers_print(FILE *f, enum answers_form form, const struct answer_row *row)
{
    int rc = OK;

    if (form == ANSWERS_JSON) {
        rc = print_json(f, row);
    } else if (row->note->rc == OK && form == ANSWERS_TSV) {
        print_tsv(f, row);
    } else if (row->note->rc == OK) {
        fwrite(row->text, 1, row->n_text, f);
        fputc('\n', f);
    }
    if (fflush(f) != 0 || ferror(f))
        return FAIL(ERR_IO, "an answer could not be written: %m");
    return rc;
}

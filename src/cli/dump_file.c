/* Attributes and groups of a dump; see dump_file.h. Lists in attributes are JSON texts. */
#include "dump_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "build_info.h"
#include "config_text.h"
#include "status.h"

static int write_config(struct h5 *h, const struct model_config *cfg)
{
    char *text;
    int rc;

    TRY(config_text_make(cfg, &text));
    rc = h5_write_text_attr(h, "/", "config", text);
    free(text);
    return rc;
}

static int write_root(struct h5 *h, const struct session *s)
{
    char hex[33];

    digest_hex(s->weights_digest, hex);
    TRY(h5_write_text_attr(h, "/", "program", "paligrid"));
    TRY(h5_write_text_attr(h, "/", "build", build_version()));
    TRY(h5_write_text_attr(h, "/", "compute", "f32"));
    TRY(h5_write_text_attr(h, "/", "window",
                           s->options->window == DECODER_WINDOW_HF ? "hf" : "none"));
    TRY(h5_write_text_attr(h, "/", "activations", session_activations(s->options)));
    TRY(h5_write_text_attr(h, "/", "weights_digest", hex));
    return write_config(h, &s->cfg);
}

int dump_create_file(struct h5 **out, const struct session *s)
{
    struct h5 *h;
    int rc;

    TRY(h5_create(&h, s->options->out));
    TRY_GOTO(write_root(h, s), discard);
    *out = h;
    return OK;
discard:
    h5_discard(h);
    return rc;
}

/* ---- lists of a case ---- */

static void print_name(FILE *f, const char *text)
{
    json_write_string(f, text, strlen(text));
}

static void print_prompts(FILE *f, const struct dump_case *c)
{
    for (size_t b = 0; b < c->n_rows; b++) {
        fputs(b ? ", " : "", f);
        print_name(f, c->row[b].prompt);
    }
}

static void print_images(FILE *f, const struct dump_case *c)
{
    for (size_t b = 0; b < c->n_rows; b++) {
        fputs(b ? ", [" : "[", f);
        for (size_t i = 0; i < c->row[b].n_images; i++) {
            fputs(i ? ", " : "", f);
            print_name(f, c->row[b].image[i]);
        }
        fputc(']', f);
    }
}

static void print_eos(FILE *f, const struct dump_case *c)
{
    for (int i = 0; i < c->n_eos; i++)
        fprintf(f, "%s%d", i ? ", " : "", (int)c->eos[i]);
}

static int write_list(struct h5 *h, const struct dump_case *c, const char *name,
                      void (*print)(FILE *f, const struct dump_case *c))
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    int rc;

    if (!f)
        return FAIL(ERR_NOMEM, "%s of %s", name, c->name);
    fputc('[', f);
    print(f, c);
    fputc(']', f);
    rc = fclose(f) == 0 ? h5_write_text_attr(h, c->name, name, text)
                        : FAIL(ERR_NOMEM, "%s of %s", name, c->name);
    free(text);
    return rc;
}

static int print_texts(FILE *f, const struct tokenizer *t, const struct dump_case *c,
                       const int32_t *tokens, size_t n_steps)
{
    for (size_t b = 0; b < c->n_rows; b++) {
        char *text;
        size_t n;

        TRY(tokenizer_decode(t, tokens + b * (size_t)c->n_steps, n_steps, &text, &n));
        fputs(b ? ", " : "[", f);
        json_write_string(f, text, n);
        free(text);
    }
    fputc(']', f);
    return OK;
}

static int write_texts(struct h5 *h, const struct tokenizer *t, const struct dump_case *c,
                       const int32_t *tokens, size_t n_steps)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    int rc;

    if (!f)
        return FAIL(ERR_NOMEM, "texts of %s", c->name);
    rc = print_texts(f, t, c, tokens, n_steps);
    if (fclose(f) != 0 && rc == OK)
        rc = FAIL(ERR_NOMEM, "texts of %s", c->name);
    if (rc == OK)
        rc = h5_write_text_attr(h, c->name, "greedy_text", text);
    free(text);
    return rc;
}

int dump_write_case(struct h5 *h, const struct tokenizer *t, const struct dump_case *c,
                    const int32_t *tokens, size_t n_steps, const struct dump_arrays *arrays)
{
    TRY(h5_group(h, c->name));
    TRY(write_list(h, c, "prompts", print_prompts));
    TRY(write_list(h, c, "images", print_images));
    TRY(write_list(h, c, "eos", print_eos));
    TRY(write_texts(h, t, c, tokens, n_steps));
    return dump_arrays_write(arrays, h, c->name);
}

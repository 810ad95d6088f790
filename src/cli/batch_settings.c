/* Settings of a batch; see batch_settings.h.
 *
 * The model is its configuration, its index, and samples of its bytes: two fine-tuned checkpoints
 * differ in their numbers only, and reading all of them would take as long as loading. */
#include "batch_settings.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "build_info.h"
#include "config_text.h"
#include "json.h"
#include "machine.h"
#include "status.h"

enum { SAMPLES = 64, SAMPLE_BYTES = 4096 };

/* ---- the model's bytes ---- */

static struct digest chain_samples(struct digest d, const char *path, const char *name)
{
    unsigned char block[SAMPLE_BYTES];
    FILE *f = fopen(path, "rb");
    struct stat st;
    int64_t size;

    if (!f)
        return d;
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        fclose(f);
        return d;
    }
    size = (int64_t)st.st_size;
    d = digest_chain(d, name, strlen(name));
    d = digest_chain(d, &size, sizeof size);
    for (int i = 0; i < SAMPLES; i++) {
        size_t n;

        if (fseeko(f, (off_t)(size / SAMPLES * i), SEEK_SET) != 0)
            break;
        n = fread(block, 1, sizeof block, f);
        d = digest_chain(d, block, n);
    }
    fclose(f);
    return d;
}

static int is_part(const struct dirent *e)
{
    static const char *const ends[] = {".safetensors", ".json", ".model", ".h5"};
    const size_t n = strlen(e->d_name);

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t n_end = strlen(ends[i]);

        if (n > n_end && strcmp(e->d_name + n - n_end, ends[i]) == 0)
            return 1;
    }
    return 0;
}

/* Of a folder's files in the order of their names, or of one file. */
static struct digest chain_model(struct digest d, const char *path)
{
    struct dirent **entry = NULL;
    int n = scandir(path, &entry, is_part, alphasort);
    char file[4096];

    if (n < 0)
        return chain_samples(d, path, "model");
    for (int i = 0; i < n; i++) {
        snprintf(file, sizeof file, "%.3000s/%.255s", path, entry[i]->d_name);
        d = chain_samples(d, file, entry[i]->d_name);
        free(entry[i]);
    }
    free(entry);
    return d;
}

/* ---- the list ---- */

__attribute__((format(printf, 3, 4))) static int add(struct batch_settings *b, const char *key,
                                                     const char *fmt, ...)
{
    va_list args;
    char *text = NULL, *name = strdup(key);
    size_t n;
    FILE *f = open_memstream(&text, &n);

    if (f) {
        va_start(args, fmt);
        vfprintf(f, fmt, args);
        va_end(args);
    }
    if (b->n == b->cap) {
        const size_t cap = b->cap ? 2 * b->cap : 32;
        struct journal_setting *grown = realloc(b->setting, cap * sizeof *grown);

        if (grown) {
            b->setting = grown;
            b->cap = cap;
        }
    }
    if (!name || !f || fclose(f) != 0 || b->n == b->cap) {
        free(name);
        free(text);
        return FAIL(ERR_NOMEM, "settings of the run");
    }
    b->setting[b->n++] = (struct journal_setting){name, text};
    return OK;
}

void batch_settings_release(struct batch_settings *b)
{
    for (size_t i = 0; i < b->n; i++) {
        free((char *)(uintptr_t)b->setting[i].key);
        free((char *)(uintptr_t)b->setting[i].value);
    }
    free(b->setting);
    *b = (struct batch_settings){0};
}

static int add_model(struct batch_settings *b, const struct session *s)
{
    const struct options *o = s->options;
    struct digest config, model;
    char hex[33];

    TRY(config_text_digest(&s->cfg, &config)); /* with soft-caps from the command line */
    model = digest_chain(s->weights_digest, &config, sizeof config);
    model = chain_model(model, o->model);
    if (o->tokenizer)
        model = chain_model(model, o->tokenizer);
    digest_hex(model, hex);
    TRY(add(b, "program", "%s", build_version())); /* kernels of another one may round differently */
    TRY(add(b, "model", "%s", hex));
    TRY(add(b, "weights", "%s", s->weights_held));
    if (strcmp(s->weights_held, "int4") == 0)
        TRY(add(b, "int4-group", "%d", 32 << o->int4_group));
    TRY(add(b, "activations", "%s", session_activations(o)));
    TRY(add(b, "window", "%s", o->window ? "hf" : "none"));
    TRY(add(b, "embed-scale", "%d", o->embed_scale));
    /* Sums inside a chunk are made in the order of the table's vectors, so bits depend on it. */
    return add(b, "device", "%s", ops_name(s->machine.device));
}

static int add_input(struct batch_settings *b, const struct options *o, const char *identity)
{
    static const char *const sampling[] = {"uniform", "stride", "fps"};
    char key[32];

    TRY(add(b, "input", "%s", identity));
    for (size_t i = 0; i < o->prompts.n; i++) {
        snprintf(key, sizeof key, i ? "prompt#%zu" : "prompt", i);
        TRY(add(b, key, "%s", o->prompts.item[i]));
    }
    TRY(add(b, "parse-special", "%s", o->parse_special ? "true" : "false"));
    TRY(add(b, "exif", "%s", o->exif ? "ignore" : "apply"));
    TRY(add(b, "passes", "%s", o->passes ? "horizontal-first" : "pillow13"));
    TRY(add(b, "max-pixels", "%d", o->max_pixels));
    TRY(add(b, "frames", "%d", o->frames));
    TRY(add(b, "sampling", "%s", sampling[o->sampling]));
    if (o->sampling != 0) {
        TRY(add(b, "sampling-step", "%.17g", o->sampling_step));
        TRY(add(b, "short", "%s", o->shortage ? "repeat" : "tile"));
    }
    return add(b, "image libraries", "%s", image_libraries());
}

static int add_decoding(struct batch_settings *b, const struct options *o,
                        const struct batch_plan *p)
{
    TRY(add(b, "max-new-tokens", "%d", o->max_new_tokens));
    TRY(add(b, "max-prompt-tokens", "%d", p->max_prompt_tokens));
    TRY(add(b, "max-images", "%d", p->max_images));
    TRY(add(b, "ignore-eos", "%s", o->ignore_eos ? "true" : "false"));
    TRY(add(b, "greedy", "%s", o->greedy ? "screened" : "full")); /* log-probabilities or none */
    TRY(add(b, "beams", "%d", o->beams));
    if (o->beams > 1)
        TRY(add(b, "length-penalty", "%.17g", o->length_penalty));
    TRY(add(b, "temperature", "%.17g", o->temperature));
    if (o->temperature == 0)
        return OK;
    TRY(add(b, "top-k", "%d", o->top_k));
    TRY(add(b, "top-p", "%.17g", o->top_p));
    return add(b, "seed", "%" PRIu64, o->seed);
}

int batch_settings_make(struct batch_settings *out, const struct session *s,
                        const struct batch_plan *p)
{
    *out = (struct batch_settings){0};
    TRY(add_model(out, s));
    TRY(add_input(out, s->options, p->identity));
    return add_decoding(out, s->options, p);
}

/* ---- what may change ---- */

static void member(FILE *f, const char *key, const char *value)
{
    json_member_string(f, key, value, strlen(value));
}

char *batch_info_json(const struct options *o, const struct batch_plan *p, const struct comm *world,
                      const char *job)
{
    char *text = NULL, *config = NULL;
    char host[MACHINE_HOST_BYTES], library[COMM_LIBRARY_BYTES], when[32];
    const time_t now = time(NULL);
    struct tm utc;
    size_t n, n_config;
    FILE *f = open_memstream(&text, &n), *c = open_memstream(&config, &n_config);
    bool good = f && c;

    if (good) {
        machine_host(host);
        comm_library(library);
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
        options_print_config(c, o);
        fflush(c);
        fputs("{\"version\":", f);
        json_write_string(f, build_version(), strlen(build_version()));
        member(f, "build", build_flags());
        member(f, "image_libraries", image_libraries());
        member(f, "mpi", library);
        member(f, "host", host);
        member(f, "started", when);
        if (job)
            member(f, "job", job);
        fprintf(f, ",\"ranks\":%d,\"replicas\":%d,\"tp\":%d,\"batch\":%d,\"options\":",
                comm_size(world), p->layout.replicas, p->layout.tp, p->batch);
        json_write_string(f, config, n_config);
        fputc('}', f);
    }
    if (c && fclose(c) != 0)
        good = false;
    if (f && fclose(f) != 0)
        good = false;
    free(config);
    if (!good) {
        free(text);
        return NULL;
    }
    return text;
}

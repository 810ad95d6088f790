/* paligrid info and --version: the program itself, or a checkpoint without loading it. */
#include "commands.h"

#include <stdlib.h>
#include <string.h>

#include "build_info.h"
#include "config_text.h"
#include "dataset.h"
#include "h5.h"
#include "identity.h"
#include "info_plan.h"
#include "json.h"
#include "ops.h"
#include "status.h"
#include "tokenizer.h"
#include "weights.h"

/* ---- the program ---- */

struct fact {
    const char *key;
    const char *text;
};

enum { MAX_FACTS = 16, MAX_CPU_TEXT = 256 };

static void print_facts(FILE *f, const struct fact *fact, size_t n, bool json)
{
    for (size_t i = 0; i < n; i++) {
        if (json) {
            fprintf(f, "%s\"%s\":", i ? "," : "{", fact[i].key);
            json_write_string(f, fact[i].text, strlen(fact[i].text));
        } else {
            fprintf(f, "%-14s %s\n", fact[i].key, fact[i].text);
        }
    }
    if (json)
        fputs("}\n", f);
}

/* The instruction sets that matter for this arithmetic, out of /proc/cpuinfo. */
static void cpu_features(char out[MAX_CPU_TEXT])
{
    static const char *const wanted[] = {
        "sse4_2",      "avx",      "avx2",     "fma",   "f16c", "avx512f", "avx512bw",
        "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve"};
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[8192];
    size_t n = 0;

    out[0] = '\0';
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "flags", 5) != 0 && strncmp(line, "Features", 8) != 0)
            continue;
        for (char *rest, *word = strtok_r(line, " \t\n", &rest); word;
             word = strtok_r(NULL, " \t\n", &rest)) {
            for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
                if (strcmp(word, wanted[i]) == 0 && n < MAX_CPU_TEXT)
                    n += (size_t)snprintf(out + n, MAX_CPU_TEXT - n, "%s%s", n ? " " : "", word);
            }
        }
        break;
    }
    if (f)
        fclose(f);
}

/* --device auto takes the last one. */
static const char *ops_text(void)
{
    static const char *const text[] = {
        [OPS_ISA_AUTO] = "ref",
        [OPS_ISA_AVX2] = "ref, cpu-avx2",
        [OPS_ISA_AVX512] = "ref, cpu-avx512",
        [OPS_ISA_AVX512_BF16] = "ref, cpu-avx512_bf16",
        [OPS_ISA_AMX] = "ref, cpu-amx",
    };

    return text[ops_cpu_best_isa()];
}

static void print_program(FILE *f, bool json)
{
    char libc[64], hex[33], message_library[COMM_LIBRARY_BYTES], cpu[MAX_CPU_TEXT];
    struct fact fact[MAX_FACTS];
    size_t n = 0;

    digest_hex(identity_of_build(), hex);
    comm_library(message_library);
    cpu_features(cpu);
    fact[n++] = (struct fact){"version", build_version()};
    fact[n++] = (struct fact){"build", hex};
    fact[n++] = (struct fact){"compiler", build_compiler()};
    fact[n++] = (struct fact){"flags", build_flags()};
    fact[n++] = (struct fact){"libc", identity_libc(libc, sizeof libc)};
    fact[n++] = (struct fact){"messages", message_library};
    fact[n++] = (struct fact){"hdf5", h5_library()};
    fact[n++] = (struct fact){"sentencepiece", tokenizer_library()};
    fact[n++] = (struct fact){"images", image_libraries()};
    fact[n++] = (struct fact){"archives", dataset_libraries()};
    fact[n++] = (struct fact){"ops", ops_text()};
    fact[n++] = (struct fact){"cpu", cpu};
    print_facts(f, fact, n, json);
}

void cmd_version(const struct options *o, FILE *f)
{
    if (o->json)
        print_program(f, true);
    else
        fprintf(f, "paligrid %s\n", build_version());
}

/* ---- a checkpoint ---- */

struct checkpoint {
    const char *name;
    struct model_config cfg;
    struct weights *weights;
    struct info_model plan;
    char digest[33];
};

static void print_count(FILE *f, const char *key, size_t n)
{
    fprintf(f, "%-14s %zu (%.3f M)\n", key, n, (double)n / 1e6);
}

static int print_checkpoint(FILE *f, const struct checkpoint *k)
{
    const struct model_config *c = &k->cfg;
    const size_t vision = config_vision_params(c), projector = config_projector_params(c),
                 text = config_text_params(c);

    fprintf(f, "%-14s %s\n", "model", k->name);
    fprintf(f, "%-14s %d px, patch %d, %d image tokens; %d layers, d %d, %d heads of %d, ff %d\n",
            "vision", c->vision.image_px, c->vision.patch_px, c->vision.n_patches,
            c->vision.n_layers, c->vision.d_model, c->vision.n_heads, c->vision.d_head,
            c->vision.d_ff);
    fprintf(f, "%-14s %d layers, d %d, %d heads and %d kv heads of %d, ff %d, vocabulary %d%s\n",
            "text", c->text.n_layers, c->text.d_model, c->text.n_heads, c->text.n_kv_heads,
            c->text.d_head, c->text.d_ff, c->text.n_vocab, c->text.tied ? "" : ", untied lm_head");
    fprintf(f, "%-14s window %d, soft-caps %g (attention) and %g (logits), context %d\n", "",
            c->text.window, (double)c->text.attn_softcap, (double)c->text.logit_softcap,
            c->text.max_positions);
    print_count(f, "params vision", vision);
    print_count(f, "  projector", projector);
    print_count(f, "  text", text);
    print_count(f, "  total", vision + projector + text);
    fprintf(f, "%-14s %zu tensors, %zu bytes (%.3f GB), %s\n", "weights",
            weights_n_tensors(k->weights), weights_total_bytes(k->weights),
            (double)weights_total_bytes(k->weights) / 1e9, dtype_name(weights_dtype(k->weights)));
    fprintf(f, "%-14s %s\n\n", "digest", k->digest);
    return info_plan_print_table(f, &k->plan);
}

static int print_checkpoint_json(FILE *f, const struct checkpoint *k)
{
    const struct model_config *c = &k->cfg;
    const size_t vision = config_vision_params(c), projector = config_projector_params(c),
                 text = config_text_params(c);

    fputs("{\"model\":", f);
    json_write_string(f, k->name, strlen(k->name));
    fputs(",\"config\":", f);
    config_text_print(f, c);
    fprintf(f, ",\"parameters\":{\"vision\":%zu,\"projector\":%zu,\"text\":%zu,\"total\":%zu}",
            vision, projector, text, vision + projector + text);
    fprintf(f, ",\"tensors\":%zu,\"bytes\":%zu,\"dtype\":\"%s\",\"digest\":\"%s\",\"plan\":",
            weights_n_tensors(k->weights), weights_total_bytes(k->weights),
            dtype_name(weights_dtype(k->weights)), k->digest);
    TRY(info_plan_print_json(f, &k->plan));
    fputs("}\n", f);
    return OK;
}

static void find_model(struct checkpoint *k, const struct options *o)
{
    size_t group;
    const enum weights_form stored = weights_stored_form(k->weights, &group);

    k->plan = (struct info_model){.model = engine_model_of(k->weights, &k->cfg),
                                  .form = (enum weights_form)o->weights,
                                  .int4_group = 32 << o->int4_group,
                                  .greedy = (enum engine_greedy)o->greedy};
    if (k->plan.form == WEIGHTS_AS_STORED) {
        k->plan.form = stored;
        k->plan.int4_group = group ? (int)group : k->plan.int4_group;
    }
    digest_hex(weights_digest(k->weights), k->digest);
}

int cmd_info(const struct options *o, FILE *f)
{
    struct checkpoint k = {.name = o->model};
    int rc;

    if (!o->model) {
        print_program(f, o->json);
        return OK;
    }
    TRY(weights_open(&k.weights, &k.cfg, o->model));
    find_model(&k, o);
    rc = o->json ? print_checkpoint_json(f, &k) : print_checkpoint(f, &k);
    weights_close(k.weights);
    return rc;
}

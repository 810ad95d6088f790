/* Model strings of synthetic weights:
 *
 *     synthetic:3b-224?seed=1                     a published size; fill=fast, bf16
 *     synthetic:PATH/config.json?seed=1&dtype=f32 any configuration; fill=exact, f32
 *
 * Keys: seed, fill (exact, fast), dtype (f32, bf16, f16), layers, vision_layers (fewer than the
 * configuration has: real widths, less memory), score_std, logit_std, embed_rms, post_norm,
 * attn_share. The two sets of defaults are make_model.py's, for tiny and for published sizes. */
#include "weights_synthetic.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

static const struct synthetic_spec OF_CONFIG = {
    .seed = 1,
    .fast = false,
    .dtype = DTYPE_F32,
    .score_std = 2.5,
    .logit_std = 10.0,
    .embed_rms = 0.25,
    .post_norm = 1.3,
    .attn_share = 1.0,
};
static const struct synthetic_spec OF_PRESET = {
    .seed = 1,
    .fast = true,
    .dtype = DTYPE_BF16,
    .score_std = 3.0,
    .logit_std = 10.0,
    .embed_rms = 0.14,
    .post_norm = 1.6,
    .attn_share = 0.6,
};

enum { MAX_TEXT = 4096 };

/* ---- values ---- */

static int parse_seed(uint64_t *out, const char *value)
{
    char *end;

    errno = 0;
    *out = strtoull(value, &end, 10);
    if (errno != 0 || *end || strspn(value, "0123456789") == 0)
        return FAIL(ERR_USAGE, "synthetic model: seed=%.40s is not a whole number below 2^64",
                    value);
    return OK;
}

static int parse_layers(int *layers, const char *key, const char *value)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(value, &end, 10);
    if (errno != 0 || *end || end == value || n < 1 || n > *layers)
        return FAIL(ERR_USAGE,
                    "synthetic model: %s=%.40s is not from 1 to %d, what the configuration has",
                    key, value, *layers);
    *layers = (int)n;
    return OK;
}

/* Bounded so that no weight leaves the range of f32. */
static int parse_knob(double *out, const char *key, const char *value)
{
    char *end;
    double x = strtod(value, &end);

    if (*end || end == value || !(x >= 1e-3 && x <= 1e3))
        return FAIL(ERR_USAGE, "synthetic model: %s=%.40s is not a number from 0.001 to 1000", key,
                    value);
    *out = x;
    return OK;
}

static int parse_fill(bool *fast, const char *value)
{
    if (strcmp(value, "fast") != 0 && strcmp(value, "exact") != 0)
        return FAIL(ERR_USAGE, "synthetic model: fill=%.40s is not exact or fast", value);
    *fast = strcmp(value, "fast") == 0;
    return OK;
}

static int parse_dtype(enum dtype *out, const char *value)
{
    if (strcmp(value, "f32") == 0)
        *out = DTYPE_F32;
    else if (strcmp(value, "bf16") == 0)
        *out = DTYPE_BF16;
    else if (strcmp(value, "f16") == 0)
        *out = DTYPE_F16;
    else
        return FAIL(ERR_USAGE, "synthetic model: dtype=%.40s is not f32, bf16 or f16", value);
    return OK;
}

/* ---- keys ---- */

static int set_key(struct synthetic_spec *s, struct model_config *cfg, const char *key,
                   const char *value)
{
    const struct {
        const char *key;
        double *to;
    } knobs[] = {
        {"score_std", &s->score_std}, {"logit_std", &s->logit_std},   {"embed_rms", &s->embed_rms},
        {"post_norm", &s->post_norm}, {"attn_share", &s->attn_share},
    };

    if (strcmp(key, "seed") == 0)
        return parse_seed(&s->seed, value);
    if (strcmp(key, "fill") == 0)
        return parse_fill(&s->fast, value);
    if (strcmp(key, "dtype") == 0)
        return parse_dtype(&s->dtype, value);
    if (strcmp(key, "layers") == 0)
        return parse_layers(&cfg->text.n_layers, key, value);
    if (strcmp(key, "vision_layers") == 0)
        return parse_layers(&cfg->vision.n_layers, key, value);
    for (size_t i = 0; i < sizeof knobs / sizeof *knobs; i++)
        if (strcmp(key, knobs[i].key) == 0)
            return parse_knob(knobs[i].to, key, value);
    return FAIL(ERR_USAGE,
                "synthetic model: unknown key \"%.40s\"; there are seed, fill, dtype, layers, "
                "vision_layers, score_std, "
                "logit_std, embed_rms, post_norm and attn_share",
                key);
}

/* keys: "a=b&c=d", cut up in place. */
static int set_keys(struct synthetic_spec *s, struct model_config *cfg, char *keys)
{
    char *next = NULL;

    for (char *key = strtok_r(keys, "&", &next); key; key = strtok_r(NULL, "&", &next)) {
        char *equals = strchr(key, '=');
        if (!equals)
            return FAIL(ERR_USAGE, "synthetic model: \"%.40s\" is not key=value", key);
        *equals = '\0';
        TRY(set_key(s, cfg, key, equals + 1));
    }
    return OK;
}

/* "DIR/config.json", or DIR itself; modified in place. */
static int read_folder(struct model_config *cfg, char *path)
{
    static const char file[] = "config.json";
    size_t n = strlen(path), m = sizeof file - 1;

    if (n == m && strcmp(path, file) == 0)
        return config_read_dir(cfg, ".");
    if (n > m + 1 && strcmp(path + n - m, file) == 0 && path[n - m - 1] == '/')
        path[n - m - 1] = '\0';
    return config_read_dir(cfg, path);
}

int synthetic_parse(struct synthetic_spec *out, struct model_config *cfg, const char *text)
{
    struct synthetic_spec spec;
    struct model_config c;
    char copy[MAX_TEXT], *keys;

    if (strlen(text) >= sizeof copy)
        return FAIL(ERR_USAGE, "synthetic model: more than %d characters", MAX_TEXT - 1);
    memcpy(copy, text, strlen(text) + 1);
    keys = strchr(copy, '?');
    if (keys)
        *keys++ = '\0';
    if (strchr(copy, '/') || strcmp(copy, "config.json") == 0) {
        spec = OF_CONFIG;
        TRY(read_folder(&c, copy));
    } else {
        spec = OF_PRESET;
        TRY(config_preset(&c, copy));
    }
    if (keys)
        TRY(set_keys(&spec, &c, keys));
    *out = spec;
    *cfg = c;
    return OK;
}

struct digest synthetic_digest(const struct synthetic_spec *s)
{
    char text[256];
    int n = snprintf(text, sizeof text,
                     "synthetic seed=%llu fast=%d dtype=%s %.17g %.17g %.17g %.17g %.17g",
                     (unsigned long long)s->seed, s->fast, dtype_name(s->dtype), s->score_std,
                     s->logit_std, s->embed_rms, s->post_norm, s->attn_share);

    return digest_of(text, (size_t)n);
}

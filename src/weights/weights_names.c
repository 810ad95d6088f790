/* Tensor names: the spellings of PaliGemma 2 checkpoints, brought to that of the published 2024
 * files.
 *
 *     hub, 2024   language_model.model.X   vision_tower.vision_model.Y  multi_modal_projector.Z
 *     in memory   model.language_model.X   model.vision_tower[.vision_model].Y
 *     later       [model.]language_model.model.X   [model.]vision_tower[.vision_model].Y
 *
 * each perhaps behind PEFT's "base_model.model.". So the rule is: drop optional
 * "base_model.model.", then optional "model.", and put back what the hub has. The output table,
 * where a file has one, is "[language_model.]lm_head.weight". Two stored names with one hub name
 * are refused by the index. */
#include "weights_impl.h"

#include <stdio.h>
#include <string.h>

/* What follows `prefix` in s, or NULL when s starts otherwise. */
static const char *after(const char *s, const char *prefix)
{
    size_t n = strlen(prefix);

    return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

static const char *drop(const char *s, const char *prefix)
{
    const char *rest = after(s, prefix);

    return rest ? rest : s;
}

static bool ends_with(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && strcmp(s + n - m, suffix) == 0;
}

enum weights_name weights_name_to_hub(char *out, const char *stored)
{
    const char *s = drop(drop(stored, "base_model.model."), "model.");
    const char *rest;

    if (ends_with(s, ".position_ids") || ends_with(s, ".rotary_emb.inv_freq"))
        return WEIGHTS_NAME_IGNORED;
    if ((rest = after(drop(s, "language_model."), "lm_head.")))
        snprintf(out, WEIGHTS_HUB_ROOM, "language_model.lm_head.%s", rest);
    else if ((rest = after(s, "language_model.")))
        snprintf(out, WEIGHTS_HUB_ROOM, "language_model.model.%s", drop(rest, "model."));
    else if ((rest = after(s, "vision_tower.")))
        snprintf(out, WEIGHTS_HUB_ROOM, "vision_tower.vision_model.%s",
                 drop(rest, "vision_model."));
    else
        snprintf(out, WEIGHTS_HUB_ROOM, "%s", s);
    return WEIGHTS_NAME_TENSOR;
}

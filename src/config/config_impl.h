/* What the files of the config room share. */
#ifndef CONFIG_IMPL_H
#define CONFIG_IMPL_H

#include "config.h"
#include "json.h"

enum { SIGLIP_D_MODEL = 1152, SIGLIP_HEADS = 16, SIGLIP_D_FF = 4304, SIGLIP_LAYERS = 27 };

/* transformers' defaults of Gemma2Config and SiglipVisionConfig, even layers sliding. What no
 * default exists for (the image token) is -1. */
void config_set_defaults(struct model_config *c);
/* Even layers slide, odd ones see everything: Gemma 2's pattern. */
void config_set_even_sliding(struct text_config *t);
float config_scale_of(double query_pre_attn_scalar);

/* config.json, parsed. name stands in messages. */
int config_from_json(struct model_config *out, const struct json_doc *doc, const char *name);
/* eos_token_id of `object`: a number or a list of them; absent or null leaves c as it is. */
int config_read_eos(struct model_config *c, const struct json *object, const char *name);

#endif

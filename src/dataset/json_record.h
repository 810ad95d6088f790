/* What the formats of JSON records share: an object's members as fields, and the usual keys. */
#ifndef JSON_RECORD_H
#define JSON_RECORD_H

#include "dataset_impl.h"
#include "json.h"

/* Members that are text, numbers or truth values become fields. */
int json_record_fields(struct draft *d, const struct json *object);
/* image_id and question_id; the prompt (prefix, else prompt, else question) and the suffix
 * (suffix, else `suffix_key` unless NULL). A member of these names that is no text (ids: text or
 * integer) is ERR_INPUT. */
int json_record_usual(struct draft *d, const struct json *object, const char *suffix_key);
/* Text of a member; NULL when it is absent or null. ERR_INPUT: it is no text. */
int json_record_text(struct draft *d, const struct json *object, const char *key, const char **out);
/* Text, or an integer as text. */
int json_record_id(struct draft *d, const struct json *object, const char *key, const char **out);

/* What one JSON object says, by format; `object` is one. */
int manifest_fill(const struct reader_params *p, struct draft *d, const struct json *object);
int openai_fill(const struct reader_params *p, struct draft *d, const struct json *object);
int folder_fill(const struct reader_params *p, struct draft *d, const struct json *object);

#endif

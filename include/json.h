/* Reading JSON with limits, over jansson; and writing it, one line at a time, without it.
 *
 * Reading: strict UTF-8, duplicate keys refused, nesting bounded. A `struct json` borrows from
 * its document; every getter names the file and the key in its error. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_doc; /* owns one parsed text */
struct json;     /* one value inside it, borrowed while the document lives */

/* `name` (a path, usually) is copied and stands in every message. code: what a failure returns
 * (ERR_MODEL for a checkpoint's file, ERR_INPUT for a record's). */
int json_parse(struct json_doc **out, const char *text, size_t n_bytes, const char *name, int code);
/* Reads at most max_bytes; a longer, missing or irregular file is an error. ERR_IO, whatever `code`
 * is, when the system fails to read. */
int json_parse_file(struct json_doc **out, const char *path, size_t max_bytes, int code);
void json_free(struct json_doc *doc);
const struct json *json_root(const struct json_doc *doc);

/* jansson owns JSON_STRING, json_string() and their like: hence KIND, and _text, _number below. */
enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INT,
    JSON_KIND_REAL,
    JSON_KIND_STRING,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};
enum json_kind json_kind_of(const struct json *v);
/* NULL when absent. */
const struct json *json_get(const struct json *object, const char *key);
size_t json_len(const struct json *array_or_object);
const struct json *json_at(const struct json *array, size_t i);
/* Object members in file order. Start with a zeroed iterator; false after the last member. */
struct json_iter {
    void *state;
};
bool json_each(const struct json *object, struct json_iter *it, const char **key,
               const struct json **value);

/* Values; "" / 0 / false when v is of another kind, so check json_kind_of first. */
const char *json_text(const struct json *v); /* UTF-8, holds no NUL */
int64_t json_int(const struct json *v);
double json_number(const struct json *v); /* integer or real */
bool json_bool(const struct json *v);

/* Typed members. key may be a path, "text_config.head_dim". A present value of another kind or
 * outside [min, max] is an error that names document and key; an absent or null one leaves *out
 * as it is. */
int json_get_int(const struct json_doc *doc, const struct json *object, const char *key,
                 int64_t min, int64_t max, int *out);
int json_get_real(const struct json_doc *doc, const struct json *object, const char *key,
                  double min, double max, float *out);
int json_get_bool(const struct json_doc *doc, const struct json *object, const char *key,
                  bool *out);

/* Writing: the string with quotes and escapes; control characters as \u00xx. What is not UTF-8
 * becomes U+FFFD (utf8.h), so the line is always valid JSON. */
void json_write_string(FILE *f, const char *s, size_t n_bytes);
/* Shortest form that reads back as the same double; nan and inf become null. */
void json_write_real(FILE *f, double x);
/* Members of an object behind its first one: a comma, the key (which needs no escapes), the value. */
void json_member_string(FILE *f, const char *key, const char *s, size_t n_bytes);
void json_member_real(FILE *f, const char *key, double x);
void json_member_int(FILE *f, const char *key, int64_t x);
void json_member_ints(FILE *f, const char *key, const int *x, size_t n);

#endif

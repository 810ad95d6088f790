/* The top level of one large JSON object, element by element, without holding it in memory. */
#ifndef JSON_SCAN_H
#define JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

struct json_scan;

/* path: a regular file that holds one object. */
int json_scan_open(struct json_scan **out, const char *path, size_t max_value_bytes);
void json_scan_close(struct json_scan *s); /* NULL is fine */
/* Back to the start. */
int json_scan_rewind(struct json_scan *s);

/* The next member of the object; its value has to be taken or skipped before the next one. *end at the
 * object's end. The key is good until the next call; one of more than 63 bytes is "". */
int json_scan_member(struct json_scan *s, const char **key, bool *end);
/* Passes over the member's value. */
int json_scan_skip(struct json_scan *s);
/* The member's value as text; *text is NULL when it is longer than max_value_bytes. Good until the
 * next call. */
int json_scan_value(struct json_scan *s, const char **text, size_t *n);
/* Goes into the member's array: *is_array false and nothing happens when it is none. */
int json_scan_enter(struct json_scan *s, bool *is_array);
/* The next element as json_scan_value; *end at the array's end. */
int json_scan_element(struct json_scan *s, const char **text, size_t *n, bool *end);

#endif

/* Names of pictures by COCO image id, in memory: 16 bytes and the name for each. */
#ifndef COCO_NAMES_H
#define COCO_NAMES_H

#include <stddef.h>
#include <stdint.h>

struct coco_names;

int coco_names_create(struct coco_names **out);
void coco_names_destroy(struct coco_names *t); /* NULL is fine */
/* One element of "images", as text; source stands in messages. One without id or name is passed over:
 * its questions will tell. text NULL: it was too long. */
int coco_names_add(struct coco_names *t, const char *source, const char *text, size_t n);
void coco_names_sort(struct coco_names *t);
/* NULL: there is none. After sorting. */
const char *coco_names_find(const struct coco_names *t, int64_t id);

#endif

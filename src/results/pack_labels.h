/* Labels of boxes as COCO category ids: looked up in a file, or numbered as they appear. */
#ifndef PACK_LABELS_H
#define PACK_LABELS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct labels;

/* categories: a COCO file ("categories": [{"id", "name"}]), or NULL: numbered from 1. */
int labels_create(struct labels **out, const char *categories);
void labels_destroy(struct labels *l); /* NULL is fine */
/* The label's id, or -1 when the file does not have it. */
int labels_find(struct labels *l, const char *label, size_t n_bytes, int64_t *id);
/* {"categories":[...]}, in the order of the numbers. */
void labels_write(FILE *f, const struct labels *l);

#endif

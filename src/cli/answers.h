/* Rows of output: one for each image (or group of images) and prompt. Printing only; nothing is
 * computed here.
 *
 * Plain, one row in all: the answer and a newline. Plain, several rows:
 * image<TAB>prompt<TAB>answer with newline, tab, return and backslash escaped, so a row is a
 * line; a failed record has no row. JSON: one object a line, also for failed records. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include <stdio.h>

#include "engine.h"
#include "jobs.h"
#include "session.h"

enum answers_form { ANSWERS_TEXT, ANSWERS_TSV, ANSWERS_JSON };

/* Bytes; for each the largest of any rank. */
struct answers_memory {
    int64_t weights, kv, step, features, exchange, total, peak_rss;
};

struct answer_row {
    const struct session *session;
    const struct job_image *image; /* [n_images] */
    const struct picture *picture; /* [n_images] */
    size_t n_images;
    const char *prompt;
    const struct note *note; /* rc not OK: the record failed, what follows is not read */
    const char *text;        /* decoded; n_text bytes */
    size_t n_text;
    const struct answer *answer;
    struct answers_memory memory;
};

/* Writes and flushes. ERR_IO when the row did not get out. */
int answers_print(FILE *f, enum answers_form form, const struct answer_row *row);

#endif

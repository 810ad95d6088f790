/* What `run` has to do: images, and the prompts asked of each.
 *
 * From IMAGE arguments and --prompt: every image with every prompt, or with --together one job
 * of all images. From --list: consecutive lines of one image make one job. One vision pass
 * serves all prompts of a job. Rows of the output are numbered in this order. */
#ifndef JOBS_H
#define JOBS_H

#include <stddef.h>

#include "comm.h"
#include "lead.h"
#include "options.h"

struct job_image {
    const char *name; /* as the user wrote it; borrowed from options or list */
    char *path;       /* owned */
};

struct job_prompt {
    const char *text; /* borrowed */
    size_t n_ids;     /* filled when prompts are measured */
    struct note note;
};

struct job {
    size_t first_image, n_images; /* in jobs.image */
    size_t first_prompt, n_prompts;
};

struct jobs {
    struct job_image *image;
    struct job_prompt *prompt;
    struct job *job;
    size_t n_images, n_prompts, n_jobs;
    size_t max_images; /* of one job */
    char *list;        /* owned: the text of --list */
};

/* Collective. o lives as long as the jobs. On failure nothing is left. */
int jobs_create(struct jobs *j, const struct options *o, struct comm *c);
/* The same from the lines of a list, which is cut up in place and owned from here on, also on
 * failure. name stands in messages, dir in front of relative paths. [local] */
int jobs_from_list(struct jobs *j, char *text, size_t n_bytes, const char *name, const char *dir);
void jobs_release(struct jobs *j);

#endif

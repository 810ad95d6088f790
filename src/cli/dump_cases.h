/* The cases of `dump`:
 *
 *   {"name": {"rows": [{"images": ["a.png"], "prompt": "caption en"}],
 *             "steps": 12, "eos": [1], "beam": 8}}
 *
 * steps defaults to --steps, eos to the checkpoint's; with beam, a search with 3 beams and that
 * many new tokens is added. With --force, tokens, their number and eos come from the other file. */
#ifndef DUMP_CASES_H
#define DUMP_CASES_H

#include "config.h"
#include "json.h"
#include "lead.h"
#include "options.h"

enum { DUMP_BEAMS = 3 };

struct dump_row {
    const char **image; /* [n_images] names; the strings are the document's */
    size_t n_images;
    const char *prompt;
    int32_t *ids; /* owned; filled when prompts are encoded */
    size_t n_ids;
};

struct dump_case {
    const char *name;
    struct dump_row *row;    /* [n_rows] */
    size_t n_rows, n_images; /* of all rows */
    int n_steps;
    int n_beam_steps; /* 0: no beam search */
    int n_eos;
    int32_t eos[CONFIG_MAX_EOS];
    int32_t *forced; /* [n_rows, n_steps], NULL without --force */
};

struct dump_cases {
    struct json_doc *doc;
    struct dump_case *item; /* [n] */
    size_t n;
};

/* text is --cases; name stands in messages. On failure nothing is left. [local] */
int dump_cases_parse(struct dump_cases *out, const char *text, size_t n_bytes, const char *name,
                     const struct options *o, const struct model_config *cfg);
void dump_cases_release(struct dump_cases *c);

/* Reads forced tokens and eos from --force on rank 0 and gives them to all. Collective. */
int dump_cases_force(struct dump_cases *c, const char *path, const struct model_config *cfg,
                     struct comm *comm);

#endif

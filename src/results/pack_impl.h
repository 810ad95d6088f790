/* Inside of packing: one pass over the records feeds every file through a table of sinks. */
#ifndef PACK_IMPL_H
#define PACK_IMPL_H

#include "results_impl.h"
#include "tokenizer.h"

struct pack_record { /* borrowed for the call */
    const struct result *r;
    const char *class; /* of a failure */
    const struct box *box;
    size_t n_boxes, n_malformed;
    bool has_pixels; /* boxes lie in the one image, whose size is known */
};

struct pack { /* what all sinks share */
    const char *dir;
    const struct settings *settings;
    uint64_t config;
    const struct pack_params *params;
    const struct moments *moments;
};

struct sink;
enum sink_form {
    SINK_LINES, /* items end in a newline */
    SINK_ARRAY, /* one JSON array of items */
    SINK_OWN,   /* no text file: open, finish and release do it all */
};
struct sink_ops {
    const char *name; /* of the file */
    unsigned bit;     /* of results_export; 0: always */
    enum sink_form form;
    int (*open)(struct sink *s);                               /* NULL: nothing to do */
    int (*put)(struct sink *s, const struct pack_record *rec); /* a record, answered or failed */
    int (*finish)(struct sink *s);   /* before the file is put into place; NULL: nothing to do */
    void (*release)(struct sink *s); /* the state, also after a failure; NULL: none */
};
struct sink {
    const struct sink_ops *ops;
    const struct pack *pack;
    struct results_file file;
    int64_t n_items;
    void *state;
};

/* Before each item of a text file; returns its stream. */
FILE *sink_item(struct sink *s);
/* Text that is a whole number without needless zeros as a number, else as a string: COCO's ids. */
void sink_put_id(FILE *f, const char *text);

extern const struct sink_ops pack_results_ops, pack_errors_ops, pack_h5_ops, pack_caption_ops,
    pack_detection_ops, pack_vqa_ops, pack_openai_ops, pack_folder_ops;

/* ---- totals of a run (pack_stats.c) ---- */

enum { STATS_CLASSES = 16 };
struct pack_stats {
    int64_t n_results, n_errors, n_tokens, n_length, n_boxes, n_malformed;
    int64_t wait_us, decode_us, vision_us, prefill_us, generate_us;
    struct {
        char name[32];
        int64_t n;
    } class[STATS_CLASSES]; /* the last one takes what does not fit */
};
void pack_stats_add(struct pack_stats *st, const struct pack_record *rec);
int pack_stats_write(const struct pack_stats *st, const struct pack *p, int64_t n_missing);

#endif

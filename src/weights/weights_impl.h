/* What the files of src/weights share: the index of an opened checkpoint and the table of a source.
 *
 * A source (weights_folder.c: safetensors; weights_h5.c: converted models; weights_synthetic.c: a
 * formula) adds its tensors to the
 * index while opening and reads rectangles of them later. Everything else - names, requests,
 * checks, coverage, the scan for non-finite values - is written once, above the table. */
#ifndef WEIGHTS_IMPL_H
#define WEIGHTS_IMPL_H

#include "weights.h"

enum { WEIGHTS_MAX_NAME = 256 }; /* longest tensor name taken from a file, without the NUL */

/* Known under this hub name although the published checkpoints do not have it: a tied model leaves
 * it unasked. */
#define WEIGHTS_LM_HEAD "language_model.lm_head.weight"
#define WEIGHTS_EMBEDDING "language_model.model.embed_tokens.weight"

/* One tensor of a checkpoint. `place` and `offset` only order the reads: tensors are read by rising
 * (place, offset). */
struct weights_entry {
    char *name;       /* hub name; owned */
    char *stored;     /* as the file spells it; owned */
    const char *path; /* file, or formula, it comes from; borrowed from the source */
    enum dtype dtype;
    size_t group; /* of Q4 */
    int n_dims;
    size_t dim[TENSOR_MAX_DIMS];
    size_t n_rows, n_cols; /* dim[0], product of the rest: how rectangles see it */
    int place;      /* safetensors: number of the file; synthetic: number of the (mean, std) pair */
    int64_t offset; /* safetensors: of the first byte in the file */
};

/* Rows [row0, row0 + n_rows) and columns [col0, col0 + n_cols); never empty when it reaches a
 * source. */
struct weights_rect {
    size_t row0, n_rows, col0, n_cols;
};

struct weights_source {
    const char *name;
    /* Writes the rectangle, dense, to host memory and adds the bytes it took from storage to
     * *read_bytes. */
    int (*read)(void *ctx, const struct weights_entry *e, const struct weights_rect *r, void *out,
                size_t *read_bytes);
    /* Quantised entries, for which `read` and this take columns in bytes, of a row of data and of a
     * row of scales. NULL in a source that has none. */
    int (*read_scales)(void *ctx, const struct weights_entry *e, const struct weights_rect *r,
                       void *out, size_t *read_bytes);
    /* Where row row0 of e's data (or scales) lies in memory that stays while the checkpoint is open;
     * NULL where it cannot be had. The whole entry may be missing. */
    const void *(*map)(void *ctx, const struct weights_entry *e, size_t row0, bool scales);
    /* A file carried along, or NULL. The whole entry may be missing. */
    const struct weights_carry *(*carried)(void *ctx, const char *name);
    void (*close)(void *ctx);
};

struct weights {
    const struct weights_source *source;
    void *ctx;                   /* the source's; owned */
    struct weights_entry *entry; /* sorted by hub name once opened */
    size_t n_entries, n_room;
    struct digest digest;
    char *label; /* the folder or formula, for messages */
    /* of a converted model, else zero: */
    enum weights_form form;
    size_t max_group;
    bool is_converted, is_of_formula;
    enum dtype source_dtype;
};

/* ---- weights.c: the index ---- */
/* Adds a copy of *e (names are copied too; n_rows and n_cols are worked out here). */
int weights_add(struct weights *w, const struct weights_entry *e);
/* Sorts the index and refuses two stored names for one tensor. */
int weights_index_finish(struct weights *w);
/* NULL when absent. Any published spelling of the name is understood. */
const struct weights_entry *weights_entry_of(const struct weights *w, const char *name);
/* "language_model....weight F32 [8, 4] place offset" for every entry, chained onto d. */
struct digest weights_index_digest(const struct weights *w, struct digest d);

/* ---- weights_folder.c, weights_synthetic.c: openers; w is zeroed but for label ---- */
int weights_open_folder(struct weights *w, struct model_config *cfg, const char *dir);
int weights_open_h5(struct weights *w, struct model_config *cfg, const char *path);
int weights_open_synthetic(struct weights *w, struct model_config *cfg, const char *text);

/* ---- weights_names.c ---- */
enum weights_name { WEIGHTS_NAME_TENSOR, WEIGHTS_NAME_IGNORED };
/* The hub name of a stored name of at most WEIGHTS_MAX_NAME bytes; out has room for
 * WEIGHTS_HUB_ROOM. Names of no known family come out as they are. Ignored: constants that some
 * versions save. */
enum { WEIGHTS_HUB_ROOM = WEIGHTS_MAX_NAME + 32 };
enum weights_name weights_name_to_hub(char *out, const char *stored);

/* ---- weights_finite.c ---- */
/* Index of the first NaN or infinity among n_elems of type t at p (any alignment), or n_elems. */
size_t weights_first_nonfinite(const void *p, size_t n_elems, enum dtype t);

/* ---- weights_list.c: what one rank asks for ---- */
struct weights_request {
    char *name; /* hub name; owned */
    int n_dims;
    size_t dim[TENSOR_MAX_DIMS];
    struct weights_rect rect;
    bool sharded;
    size_t chunk;     /* > 0: only linear layers read it, with such chunks */
    bool may_convert; /* ranks cut its columns at chunks' borders only */
    struct tensor *view;
    /* set by weights_load: */
    const struct weights_entry *entry;
    enum dtype dtype;              /* as held */
    size_t group;                  /* of Q4 */
    size_t row_bytes, n_bytes, at; /* of data: one row, all, place in the block */
    size_t scale_row_bytes, n_scale_bytes, scale_at;
    struct tensor made; /* what *view becomes */
    const void *mapped, *mapped_scale; /* used in place: nothing is read or placed */
};
struct weights_list {
    struct weights_request *request;
    size_t n, n_room;
    enum weights_form form;
    size_t max_group;
    enum weights_place place;
    bool frozen;
};

/* ---- weights_map.c ---- */
/* A file in memory, mapped at the first need. */
struct weights_mapping {
    const char *base;
    size_t n_bytes;
};
/* NULL when the file cannot be mapped, or does not reach from `at` to at + n_bytes. */
const void *weights_map_at(struct weights_mapping *m, int fd, int64_t at, size_t n_bytes);
void weights_unmap(struct weights_mapping *m);
/* Sets r->mapped where r may be used in place on this device. */
void weights_map_request(const struct weights *w, const struct device *d,
                         struct weights_request *r);

/* ---- weights_load.c, weights_convert.c: reading what was asked for ---- */
enum { WEIGHTS_PIECE_BYTES = 16 << 20, WEIGHTS_PIECE_ROWS = 4096 };

struct weights_reader {
    struct weights *w;
    struct device *d;
    struct comm *c;
    char *block; /* device memory */
    char
        *staging; /* bytes as stored, on their way to a conversion: a piece or one row; or NULL */
    char *landing; /* where bytes wait for their upload, if the device has no room for that */
    float *row;   /* one row in f32; NULL without conversions */
    size_t read_bytes;
    bool told; /* a failure here or elsewhere is known to all ranks: nobody reads on */
};

/* Reads a part of a tensor as stored and refuses what is not finite. */
int weights_read_part(struct weights_reader *x, const struct weights_request *r,
                      const struct weights_rect *part, void *to);
/* Reads r into the block, converting where that is asked for. Not for a joint tensor in a group. */
int weights_read_request(struct weights_reader *x, const struct weights_request *r);
/* Reads what the file holds quantised. */
int weights_read_quantised(struct weights_reader *x, const struct weights_request *r);
/* Finds the requests' entries, checks their shapes, works out their forms and that no tensor of the
 * checkpoint is left over. [local] */
int weights_match(const struct weights *w, struct weights_list *l);
/* [local] Buffers for pieces of these requests; free_staging in any case. */
int weights_allocate_staging(struct weights_reader *x, const struct weights_list *l);
/* Where n_bytes of the block are made ready on the host, for ops_upload; until the next call. */
int weights_landing(struct weights_reader *x, size_t n_bytes, char **out);
void weights_free_staging(struct weights_reader *x);
/* Works out how r, whose entry is set, is held in this form, and its sizes. */
int weights_plan_form(const struct weights_list *l, struct weights_request *r);
static inline bool weights_is_converted(const struct weights_request *r)
{
    return r->dtype != r->entry->dtype;
}
/* The ranks make the scales of r together: rows of a Q8 tensor that they cut. All ranks convert
 * such a tensor, whatever happened before, until told. */
static inline bool weights_is_joint(const struct weights_request *r)
{
    return weights_is_converted(r) && r->dtype == DTYPE_Q8 && r->chunk < r->entry->n_cols;
}
/* Rows that are converted at once, the same on every rank. */
size_t weights_piece_rows(const struct weights_request *r);
/* rc: of what this rank read before; anything but OK is passed on to the others by a joint tensor.
 * Collective for a joint tensor. */
int weights_convert(struct weights_reader *x, const struct weights_request *r, int rc);

/* ---- weights_cover.c ---- */
/* Collective. ERR_INTERNAL on every rank unless the sharded rectangles of all ranks cover each of
 * their tensors exactly once. Ranks must have the same index and requests for the same tensors. */
int weights_check_cover(const struct weights *w, const struct weights_list *l, struct comm *c);

#endif

/* Checkpoints: named tensors of which each rank takes rectangles.
 *
 * Tensors are asked for by their hub name ("language_model.model.layers.0.mlp.up_proj.weight"; an
 * untied output table is "language_model.lm_head.weight"); the other published spellings are
 * mapped on opening, and understood when asking. Sources are behind one table
 * (src/weights/weights_impl.h): Hugging Face safetensors folders, converted models (one HDF5 file,
 * see weights_save), and synthetic weights.
 *
 * Loading is one collective step: requests are gathered first, checked against the file's names,
 * shapes and types, one block is allocated, then every rank reads its rectangles once, in file
 * order. */
#ifndef WEIGHTS_H
#define WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm.h"
#include "config.h"
#include "digest.h"
#include "ops.h"
#include "tensor.h"

struct weights; /* an opened checkpoint: index only, no tensor bytes in memory */

/* model: a folder, a converted model.h5, "synthetic:3b-224?seed=1", or
 * "synthetic:PATH/config.json?seed=1&dtype=bf16" (keys: weights_synthetic_spec.c; the formula:
 * weights_synthetic.c). A folder's model.safetensors goes before its model.safetensors.index.json.
 * Also reads the configuration. [local] ERR_MODEL names file and tensor for: missing shard, bad
 * header, overlap, hole, truncation, duplicate, unsupported type, unsafe shard name. ERR_USAGE: a
 * bad synthetic string. */
int weights_open(struct weights **out, struct model_config *cfg, const char *model);
void weights_close(struct weights *w); /* NULL is fine */
/* Also of a model that was converted from a formula: there is no tokenizer. */
bool weights_is_synthetic(const struct weights *w);
/* Identity of names, shapes, types, offsets and file sizes (or of the synthetic formula): equal on
 * ranks that opened the same, wherever it lies. */
struct digest weights_digest(const struct weights *w);
/* Element type of the embedding table: what "the checkpoint's type" means. Of a converted model it
 * is the original's. */
enum dtype weights_dtype(const struct weights *w);
/* How the decoder's matrices lie in the file: AS_STORED for a checkpoint, else the form it was
 * converted to, with the largest group of INT4 (else 0). A quantised model loads in its form only. */
enum weights_form weights_stored_form(const struct weights *w, size_t *group);
/* A file that a converted model carries along ("tokenizer.model"): *bytes borrowed from w, NULL
 * when there is none and for other sources. */
void weights_carried(const struct weights *w, const char *name, const void **bytes, size_t *n_bytes);
/* Shape of a tensor; false when the checkpoint does not have it. */
bool weights_find(const struct weights *w, const char *name, int *n_dims,
                  size_t dim[TENSOR_MAX_DIMS]);
size_t weights_n_tensors(const struct weights *w);
size_t weights_total_bytes(const struct weights *w);

/* The rectangles one rank wants. Grows while asking, frozen by weights_load. */
struct weights_list;
int weights_list_create(struct weights_list **out);
void weights_list_destroy(struct weights_list *l);
/* How the tensors marked by weights_may_convert are to be held: as the file has them (without this
 * call), or converted while loading. max_group: int4 groups have at most so many elements, 2 to
 * QUANT_MAX_GROUP. */
enum weights_form { WEIGHTS_AS_STORED, WEIGHTS_BF16, WEIGHTS_INT8, WEIGHTS_INT4 };
void weights_list_hold(struct weights_list *l, enum weights_form form, size_t max_group);
/* READ (without this call): every rank copies its rectangles into memory of its own, checked for
 * non-finite values, whatever happens to the files later. MAP: what a host device takes in whole
 * rows and unconverted is used where the file lies in the system's cache: a warm start copies
 * nothing, and a node holds one copy for all its ranks. It is not read ahead of its use, so not
 * checked, and a file that becomes shorter while in use ends the process. With MAP the opened
 * checkpoint must outlive the views. */
enum weights_place { WEIGHTS_READ, WEIGHTS_MAP };
void weights_list_place(struct weights_list *l, enum weights_place place);
/* Wants rows [row0, row0 + n_rows) and columns [col0, col0 + n_cols) of tensor `name`, seen as
 * [dim[0], product of the rest], whose whole shape must be dim. After weights_load, *view is the
 * rectangle, dense, in the file's type: a whole tensor keeps its shape, a part is [n_rows, n_cols]
 * (1-D tensors: [n_rows]). An empty rectangle gives a view with data NULL. sharded: the ranks'
 * rectangles of this tensor are meant to cover it exactly once (load asserts it over the group);
 * otherwise every rank takes what it takes. All ranks ask for the same tensors in the same order.
 * view is borrowed until load. */
int weights_want(struct weights_list *l, const char *name, int n_dims, const size_t *dim,
                 size_t row0, size_t n_rows, size_t col0, size_t n_cols, bool sharded,
                 struct tensor *view);
/* The tensor asked for last, a matrix, may be held in the list's form; its view then is BF16, Q8 or
 * Q4 (quant.h). Every rank's first column is a multiple of chunk_elems, which is the length of a
 * row where ranks do not cut rows; where they do, every rank takes all rows, and an int4 group is
 * the largest one that divides the chunk. */
void weights_may_convert(struct weights_list *l, size_t chunk_elems);
/* The tensor asked for last is read by linear layers only (and ops_embed), in chunks of so many
 * elements: the device may arrange it (ops_arrange). weights_may_convert says so, too. */
void weights_may_arrange(struct weights_list *l, size_t chunk_elems);

struct weights_stats {
    size_t rank_bytes;   /* memory of this rank's rectangles, rounded up as placed */
    size_t mapped_bytes; /* of rectangles that are used in place */
    size_t read_bytes;  /* read by this rank: more than its rectangles where rows are short */
    size_t group_bytes; /* read by all ranks */
    double seconds;
};
/* Collective on c. Allocates one device block (owned by the caller: arena_release) and fills every
 * view, converting piece by piece where that is asked for: the same bytes on any number of ranks.
 * On failure nothing is allocated and views are untouched. ERR_MODEL with file and tensor: a
 * missing tensor, a wrong shape, a tensor of the checkpoint that nobody asked for ("unknown
 * tensor"), a non-finite weight. A tied model leaves lm_head unasked: it is compared with the
 * embedding table, a sample of rows, and a warning tells of differences. ERR_MISMATCH: ranks opened
 * different checkpoints or ask for different tensors. ERR_UNSUPPORTED: weights that the form cannot
 * hold: beyond f16 or odd chunks in int4, beyond bf16. ERR_INTERNAL: sharded rectangles that do not
 * cover their tensor. Errors are agreed: all ranks return the worst code. */
int weights_load(struct weights *w, struct weights_list *l, struct device *d, struct comm *c,
                 struct arena *block, struct weights_stats *stats);

/* Writes what `l` asks for, whole tensors, in the list's form as one HDF5 file that weights_open
 * reads: /index (JSON: names, types, shapes, original type), /files/NAME (what `carry` brings:
 * configuration and tokenizer), /tensors/NAME/data [n_rows, row bytes] and, of quantised ones,
 * /scale. A matrix that ranks cut by columns is chunked at its K-chunks, everything else is
 * contiguous: every rank count reads its own slices only. Piece by piece, in little memory; the
 * file appears under its name when it is whole. c is a group of one, d host memory. */
struct weights_carry {
    const char *name;
    const void *bytes;
    size_t n_bytes;
};
int weights_save(struct weights *w, struct weights_list *l, struct device *d, struct comm *c,
                 const struct weights_carry *carry, size_t n_carry, const char *path);

/* safetensors header check alone, for the fuzz target: bytes of a whole file. */
int weights_check_safetensors(const uint8_t *bytes, size_t n_bytes, const char *name);
/* The same for the index of a converted model: its JSON text. */
int weights_check_model_index(const uint8_t *bytes, size_t n_bytes, const char *name);

#endif

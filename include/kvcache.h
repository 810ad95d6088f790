/* Keys and values of the decoder, in pages shared by reference count.
 *
 * One pool per replica: every page holds OPS_PAGE_TOKENS tokens of all layers for this rank's KV
 * heads. A sequence is a list of pages; forking one (beam search) shares full pages and copies the
 * last, partly filled one. Layout of a layer: struct ops_kv. Nothing allocates after creation. */
#ifndef KVCACHE_H
#define KVCACHE_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "ops.h"

struct kvcache; /* the pool */
struct kvseq;   /* one sequence, owned by the pool */

/* Room for n_pages pages and max_seqs sequences of at most max_tokens tokens each. Borrowed:
 * device. Owned: one device block. */
int kvcache_create(struct kvcache **out, struct device *d, const struct text_config *cfg,
                   size_t n_kv_heads_local, size_t n_pages, size_t max_seqs, size_t max_tokens);
void kvcache_destroy(struct kvcache *kv); /* NULL is fine */
size_t kvcache_bytes(const struct kvcache *kv);
/* The same before there is one. ERR_NOMEM when it does not fit a size. */
int kvcache_bytes_for(size_t *out, const struct text_config *cfg, size_t n_kv_heads_local,
                      size_t n_pages);
size_t kvcache_pages_for(size_t n_tokens);
size_t kvcache_free_pages(const struct kvcache *kv);

/* An empty sequence; ERR_NOMEM when all are taken. */
int kvcache_open(struct kvcache *kv, struct kvseq **out);
void kvcache_close(struct kvcache *kv, struct kvseq *s); /* gives its pages back; NULL is fine */
/* A sequence equal to s: shares full pages, copies the last partial one. */
int kvcache_fork(struct kvcache *kv, const struct kvseq *s, struct kvseq **out);
/* Makes room for n_tok more tokens: pages taken, length grown. ERR_NOMEM when the pool is empty,
 * ERR_INPUT past max_tokens. */
int kvcache_extend(struct kvcache *kv, struct kvseq *s, size_t n_tok);
/* Takes the last n_tok tokens back, none of which a fork may share. */
void kvcache_shrink(struct kvcache *kv, struct kvseq *s, size_t n_tok);
size_t kvseq_len(const struct kvseq *s);
/* Where layer `layer` of s lies; valid until the next extend of s. */
struct ops_kv kvcache_layer(const struct kvcache *kv, const struct kvseq *s, int layer);

#endif

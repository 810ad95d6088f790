/* The C face of libsentencepiece: load a model from memory, encode text.
 *
 * No C++ exception crosses: every function is a barrier. The library's own words are handed back
 * as text. What pieces mean is read from the file in vocab.c, so nothing else is asked for. */
#ifndef SP_SHIM_H
#define SP_SHIM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum sp_status {
    SP_OK = 0,
    SP_REFUSED = -1,   /* the library does not accept the model or the text */
    SP_TOO_SMALL = -2, /* more ids than the caller has room for             */
    SP_NOMEM = -3,
};

struct sp_model;

/* Bytes of a serialized ModelProto, borrowed for the call. On SP_REFUSED `why` (why_bytes > 0)
 * holds the library's message. *out is the caller's, for sp_free. */
int sp_load(struct sp_model **out, const void *bytes, size_t n_bytes, char *why, size_t why_bytes);
void sp_free(struct sp_model *m); /* NULL is fine */
int sp_n_pieces(const struct sp_model *m);

/* Ids of the text, valid UTF-8, into the caller's ids[0 .. cap); *n_ids is set on SP_OK only. */
int sp_encode(const struct sp_model *m, const char *text, size_t n_bytes, int32_t *ids, size_t cap,
              size_t *n_ids);

#ifdef __cplusplus
}
#endif

#endif

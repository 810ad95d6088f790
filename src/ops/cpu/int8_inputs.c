/* Inputs as int8, with scales and sums; see int8_inputs.h. The bytes are quant.h's own, to the bit. */
#include "int8_inputs.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 512 };
_Static_assert(BLOCK % INT8_BYTES == 0 && BLOCK % INT8_HALVES == 0, "blocks are whole words");

static float scale_of(const float *x, size_t n)
{
    const float largest = quant_max_abs(x, n);

    return isfinite(largest) ? quant_q8_scale(largest) : NAN;
}

/* Words of the block's first n bytes; those up to BLOCK are zero. */
static void put_block(int32_t *to, const int8_t q[BLOCK], size_t n, size_t n_elems)
{
    int16_t half[BLOCK];

    if (n_elems == INT8_BYTES) {
        memcpy(to, q, (n + INT8_BYTES - 1) / INT8_BYTES * sizeof *to);
        return;
    }
    for (size_t i = 0; i < BLOCK; i++)
        half[i] = q[i];
    memcpy(to, half, (n + INT8_HALVES - 1) / INT8_HALVES * sizeof *to);
}

/* Of n elements; returns their integers' sum. Where the scale is NaN they are anything. */
static int32_t pack_chunk(int32_t *to, const float *x, size_t n, float scale, size_t n_elems)
{
    int32_t sum = 0;

    for (size_t k = 0; k < n; k += BLOCK) {
        const size_t n_block = n - k < BLOCK ? n - k : BLOCK;
        int8_t q[BLOCK] = {0};

        quant_q8_row(q, x + k, n_block, scale);
        for (size_t i = 0; i < BLOCK; i++)
            sum += q[i];
        put_block(to + k / n_elems, q, n_block, n_elems);
    }
    return sum;
}

struct packing {
    const struct mm *m;
    size_t n_elems;
};

static void pack_tokens(void *arg, size_t begin, size_t end, int thread)
{
    const struct packing *p = arg;
    const struct mm *m = p->m;
    const size_t n_words = mm_words(m, p->n_elems), n_all = int8_token_words(m, p->n_elems),
                 chunk_words = (m->chunk + p->n_elems - 1) / p->n_elems;

    (void)thread;
    for (size_t t = begin; t < end; t++)
        for (size_t c = 0; c < mm_n_chunks(m); c++) {
            const float *const x = m->x + t * m->n_k + c * m->chunk;
            const size_t n = mm_chunk_len(m, c);
            const float scale = scale_of(x, n);
            int32_t *const words = (int32_t *)m->packed + t * n_all;
            int32_t *const behind = words + n_words + 2 * c;

            behind[0] = (int32_t)f32_bits(scale);
            behind[1] = pack_chunk(words + c * chunk_words, x, n, scale, p->n_elems);
        }
}

void int8_pack(struct mm *m, size_t n_elems)
{
    struct packing p = {m, n_elems};

    team_share(m->cpu, m->n_tok, 8, pack_tokens, &p);
}

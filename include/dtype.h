/* Element types as they lie in files and in memory, and their conversions. */
#ifndef DTYPE_H
#define DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Q8 and Q4 are weights with scales beside them; quant.h says how. */
enum dtype {
    DTYPE_F32,
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_I64,
    DTYPE_I32,
    DTYPE_U8,
    DTYPE_Q8,
    DTYPE_Q4
};

size_t dtype_bytes(enum dtype t);     /* not of Q4, whose elements are half bytes */
const char *dtype_name(enum dtype t); /* "F32", "BF16", ... as safetensors spells them */
int dtype_is_float(enum dtype t);     /* F32, BF16 or F16 */
int dtype_is_quantised(enum dtype t); /* Q8 or Q4 */

static inline float f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}
static inline float f32_from_bf16(uint16_t h)
{
    return f32_from_bits((uint32_t)h << 16);
}
/* Round to nearest even; a NaN stays a NaN. */
uint16_t bf16_from_f32(float f);
float f32_from_f16(uint16_t h);
uint16_t f16_from_f32(float f);
/* x rounded to type t (a float type) and back. */
float dtype_round(float x, enum dtype t);
/* n elements of float type t, exact in f32; and f32 rounded to t. src and dst do not overlap. */
void dtype_widen(float *dst, const void *src, enum dtype t, size_t n);
void dtype_narrow(void *dst, enum dtype t, const float *src, size_t n);

#endif

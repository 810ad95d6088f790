/* Element types as they lie in files and in memory, and their conversions. */
#ifndef DTYPE_H
#define DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I64, DTYPE_I32, DTYPE_U8 };

size_t dtype_bytes(enum dtype t);
const char *dtype_name(enum dtype t); /* "F32", "BF16", ... as safetensors spells them */
int dtype_is_float(enum dtype t);     /* F32, BF16 or F16 */

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

#endif

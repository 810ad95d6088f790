/* Attention in f32 in the instructions of this file's name. */
#include "vec_avx512.h"

#include "attention_f32.h"

const struct attention_kernels attention_avx512 = {prefill, decode};

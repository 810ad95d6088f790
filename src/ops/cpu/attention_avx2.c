/* Attention in f32 in the instructions of this file's name. */
#include "vec_avx2.h"

#include "attention_f32.h"

const struct attention_kernels attention_avx2 = {prefill, decode};

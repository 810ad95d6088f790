/* Bytes to the numbers the model was trained on, with transformers' own roundings.
 *
 * v * 0.00392156862745098 in double, rounded to float; then (x - 0.5) / 0.5 in float. The closed
 * form (v - 127.5) / 127.5 differs in half of the 256 values. Channels become planes. */
#include "image.h"

void image_normalise(const uint8_t *rgb, int px, float *out)
{
    size_t n_pixels = (size_t)px * (size_t)px;
    float value[256];

    for (int v = 0; v < 256; v++) {
        float x = (float)((double)v * 0.00392156862745098);
        value[v] = (x - 0.5f) / 0.5f;
    }
    for (size_t i = 0; i < n_pixels; i++) {
        for (size_t c = 0; c < 3; c++)
            out[c * n_pixels + i] = value[rgb[3 * i + c]];
    }
}

/* Which frames of a video are seen; see image.h.
 *
 * Uniform follows numpy to the last bit: linspace computes i * ((T - 1) / (n - 1)) in doubles, sets
 * the last element to T - 1, and the conversion to int rounds down. */
#include "image.h"

static int64_t uniform(int64_t n_total, int n_frames, int i)
{
    if (i > 0 && i == n_frames - 1)
        return n_total - 1;
    return i == 0 ? 0 : (int64_t)((double)i * ((double)(n_total - 1) / (double)(n_frames - 1)));
}

/* -1 behind the end. */
static int64_t stepped(const struct image_clip *clip, int64_t n_total, double fps, int i)
{
    double step = clip->sampling == IMAGE_FPS ? fps / clip->step : clip->step;
    double at = (double)i * step;

    if (i == 0)
        return 0;
    return at < (double)n_total ? (int64_t)at : -1;
}

void image_clip_choose(const struct image_clip *clip, int64_t n_total, double fps, int64_t *frame)
{
    int n_taken = 0;

    for (int i = 0; i < clip->n_frames; i++) {
        int64_t at = clip->sampling == IMAGE_UNIFORM ? uniform(n_total, clip->n_frames, i)
                                                     : stepped(clip, n_total, fps, i);
        if (at < 0)
            break;
        frame[n_taken++] = at;
    }
    for (int i = n_taken; i < clip->n_frames; i++)
        frame[i] = clip->shortage == IMAGE_SHORT_TILE ? frame[i % n_taken] : frame[n_taken - 1];
}

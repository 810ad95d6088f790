/* How far a run is: a line or a bar on stderr, and a text file for Prometheus. */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "coord.h"

struct progress {
    const struct coord_params *params;
    int64_t start_us, shown_us, written_us;
    int64_t n_done_then; /* when shown last: for the rate of now */
    bool bar_open;
    /* kept by the coordinator */
    int64_t n_resumed, n_answered, n_failed; /* answered and failed in this start */
    int64_t n_read;                          /* records of the input so far */
    int64_t n_elsewhere;                     /* of these, records of other shards */
    bool is_total;                           /* n_read is all there is */
    int64_t n_tokens, n_open;                /* tokens of answers; records at replicas */
    int64_t n_syncs, sync_us;
    double wait_share;
};

void progress_start(struct progress *p, const struct coord_params *params);
/* Shows what is due. */
void progress_tick(struct progress *p);
/* Shows the end, and leaves the terminal's line. */
void progress_end(struct progress *p);
double progress_images_per_s(const struct progress *p); /* records, of this start */

#endif

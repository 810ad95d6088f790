/* Who writes into an output directory: the file LOCK.
 *
 * Two marks of life. The holder keeps a lock on the open file, which the kernel drops with the
 * process: reliable on one machine, and on cluster file systems sometimes. And it counts up a
 * number in the file's text: whoever sees that stand still for stale_s, by its own monotonic clock,
 * takes over. No time of day is compared, so clocks may differ and jump. */
#ifndef JOURNAL_LOCK_H
#define JOURNAL_LOCK_H

#include <stdbool.h>

#include "results_impl.h"

struct lock;

struct lock_params {
    const char *dir;
    const char *job; /* the batch system's name of this job; NULL: none */
    double stale_s;
    bool *held; /* as in journal_params */
    struct moments moments;
};
/* ERR_IO names the holder of a live lock, or sets *held. May wait stale_s for a sign of life from
 * another host. */
int lock_take(struct lock **out, const struct lock_params *p, bool *took_over);
/* Still ours? ERR_IO names the new owner. */
int lock_check(const struct lock *l);
/* Checks that, and shows life. */
int lock_beat(struct lock *l);
/* A beat, at most once a second: for long work. */
int lock_keep_alive(struct lock *l);
/* Empties the file if it is still ours. NULL is fine. */
void lock_release(struct lock *l);

#endif

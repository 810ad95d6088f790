/* Recorded stretches of calls and when to use them: plain C over a table's entries, so that it is
 * tested without a GPU. Only src/ops and its tests include it.
 *
 * A key that is seen for the first time is noted and runs plainly: that loads the kernels, fills the
 * lists that kernels read, and costs nothing for stretches that never come again. The second time
 * the calls are recorded, and from then on replayed. REPLAY_GRAPHS keys are held; the one that was
 * used longest ago goes first. */
#ifndef REPLAY_H
#define REPLAY_H

#include "ops_step.h"

enum { REPLAY_GRAPHS = 32 };

struct replay_table {
    void *ctx;
    int (*begin)(void *ctx); /* from here on calls are recorded and not run */
    /* Ends what begin began, whatever became of it. OK: *graph is the record. */
    int (*end)(void *ctx, void **graph);
    int (*launch)(void *ctx, void *graph);
    void (*destroy)(void *ctx, void *graph);
    uint64_t (*state)(void *ctx);     /* what else the calls depend on */
    const char *(*reason)(void *ctx); /* why begin or end failed last; they log nothing */
};

struct replay;
int replay_create(struct replay **out, const struct replay_table *table);
void replay_destroy(struct replay *r); /* NULL is fine */
int replay_run(struct replay *r, const struct ops_stretch *s);
/* Memory that records may point to is gone: all are dropped, and their keys are new again. */
void replay_forget(struct replay *r);
void replay_turn_off(struct replay *r);
bool replay_is_off(const struct replay *r);
struct ops_replay_counts replay_counts(const struct replay *r);

#endif

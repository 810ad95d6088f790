/* What decides about the answers of a batch, as text: the journal's settings. Another start may
 * differ in none of them; ranks, replicas, batch, threads and transport are not among them. */
#ifndef BATCH_SETTINGS_H
#define BATCH_SETTINGS_H

#include "batch_plan.h"
#include "session.h"

struct batch_settings {
    struct journal_setting *setting; /* [n] owned, with its texts */
    size_t n, cap;
};

/* s: started. Rank 0 only. out is to be released in any case. */
int batch_settings_make(struct batch_settings *out, const struct session *s,
                        const struct batch_plan *p);
void batch_settings_release(struct batch_settings *b);
/* An object for run.json: versions, machine, arguments in effect. Caller frees; NULL: no memory. */
char *batch_info_json(const struct options *o, const struct batch_plan *p, const struct comm *world,
                      const char *job);

#endif

/* Sums that left the exact range, where numbers stay on the device during a pass.
 *
 * Sums of a GPU alone, or of GPUs that exchange among themselves, need no host, and waiting for a
 * counter twice a layer would leave the GPU idle. So each place of the model ("decoder layer 17,
 * attention output") has a counter in device memory, and tp_check looks at all of them once a pass.
 *
 * Invariant: a chunk out of range counts as zero on its rank, so every rank goes on with the same
 * calls on the same wrong numbers until tp_check, which tells all of them, in the same call and of
 * the same place: the first one. Counters are zero again afterwards. */
#include "tp.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "status.h"
#include "tp_impl.h"

bool tp_defers(const struct tp *t)
{
    return !ops_is_host(t->device) && (t->direct || t->plan->n_ranks == 1);
}

static bool is_same_place(const struct tp_place *a, const struct tp_place *b)
{
    return a->layer == b->layer && a->what == b->what && a->number == b->number &&
           a->n_chunks == b->n_chunks;
}

/* Passes visit places in the same order, so the search begins behind the last one found. */
size_t tp_place(struct tp *t, const struct tp_place *here)
{
    const size_t n = t->n_places;

    for (size_t i = 0; i < n; i++) {
        const size_t at = (t->last_place + 1 + i) % n;

        if (is_same_place(&t->place[at], here))
            return t->last_place = at;
    }
    ASSERT(n < TP_MAX_PLACES);
    t->place[n] = *here;
    return t->last_place = t->n_places++;
}

int tp_fail_range(const struct tp_place *p, int64_t n_bad, int64_t n_bad_here)
{
    char at[64] = "";

    if (p->layer)
        snprintf(at, sizeof at, "%s %d, ", p->layer, p->number);
    return FAIL(ERR_RANGE,
                "%s%s: %" PRId64 " partial sums (%" PRId64
                " on this rank) are beyond +-%g or not finite; the weights or the input "
                "are unusable",
                at, p->what, n_bad, n_bad_here, (double)ops_fixed_limit(p->n_chunks));
}

/* All counters are zero for the next pass. */
static int clear_counts(struct tp *t)
{
    struct tp_report *r = &t->told;

    memset(r->n_bad_here, 0, sizeof r->n_bad_here);
    memset(r->n_bad, 0, sizeof r->n_bad);
    TRY(ops_upload(t->device, t->report->n_bad_here, r->n_bad_here, sizeof r->n_bad_here));
    return ops_upload(t->device, t->report->n_bad, r->n_bad, sizeof r->n_bad);
}

int tp_count(struct tp *t)
{
    if (!tp_defers(t))
        return OK;
    TRY(ops_copy(t->device, t->report->n_bad, t->report->n_bad_here, sizeof t->report->n_bad));
    return t->direct
               ? comm_device_allreduce_sum(t->direct, t->report->n_bad, TP_MAX_PLACES, DTYPE_I64)
               : OK;
}

int tp_look(struct tp *t)
{
    const struct tp_report *told = &t->told;
    size_t first = 0;

    if (t->direct)
        TRY(comm_device_wait(t->direct));
    TRY(ops_download(t->device, &t->told, t->report, sizeof *told));
    TRY(ops_sync(t->device));
    while (first < t->n_places && told->n_bad[first] == 0)
        first++;
    if (first == t->n_places)
        return OK;
    tp_fail_range(&t->place[first], told->n_bad[first], told->n_bad_here[first]);
    TRY(clear_counts(t));
    return ERR_RANGE;
}

int tp_check(struct tp *t)
{
    if (!tp_defers(t))
        return OK;
    TRY(tp_count(t));
    return tp_look(t);
}

/* Agreement between ranks: on a phase's status, and on being the same program with the same job.
 *
 * Both are made of the plain collectives. comm_check_same must not trust the peers it is about to
 * check: a rank of another build may compare a longer or shorter list, so the length goes first
 * and is bounded before it is used. Rank 0's list is the one the others are held to. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "comm_impl.h"
#include "status.h"

int comm_agree(struct comm *c, int rc)
{
    int64_t trouble = -(int64_t)rc; /* codes are negative: the worst one is the largest trouble */

    ASSERT(rc <= 0);
    TRY(comm_allreduce_max(c, &trouble, 1, DTYPE_I64));
    return (int)-trouble;
}

/* Bit i: item i differs from rank 0's. Bit COMM_MAX_SAME: the list has another length. */
static const uint64_t OTHER_LENGTH = (uint64_t)1 << COMM_MAX_SAME;

static int compare_with_root(struct comm *c, const struct digest *d, size_t n, uint64_t *differs)
{
    struct digest root[COMM_MAX_SAME] = {{{0}}};
    uint64_t n_root = n;

    TRY(comm_bcast(c, &n_root, sizeof n_root, 0));
    if (n_root > COMM_MAX_SAME)
        return FAIL(ERR_MISMATCH, "rank 0 compares %" PRIu64 " things, this rank %zu", n_root, n);
    for (size_t i = 0; c->rank == 0 && i < n; i++)
        root[i] = d[i];
    TRY(comm_bcast(c, root, (size_t)n_root * sizeof root[0], 0));
    *differs = n_root == n ? 0 : OTHER_LENGTH;
    for (size_t i = 0; i < n && i < n_root; i++) {
        if (!digest_equal(d[i], root[i]))
            *differs |= (uint64_t)1 << i;
    }
    return OK;
}

/* " (ranks 1-3, 6)": those whose mask has the bit. */
static void write_ranks(FILE *f, const uint64_t *differs, int size, uint64_t bit)
{
    const char *before = " (ranks ";

    for (int r = 0; r < size; r++) {
        int last = r;
        if (!(differs[r] & bit))
            continue;
        while (last + 1 < size && differs[last + 1] & bit)
            last++;
        fprintf(f, last > r ? "%s%d-%d" : "%s%d", before, r, last);
        before = ", ";
        r = last;
    }
    fputs(")", f);
}

/* Rank 0 speaks for all. The log cuts a text that is too long. */
static int report(struct comm *c, const char *const *what, size_t n, const uint64_t *differs)
{
    uint64_t any = 0;
    char *text = NULL;
    size_t n_text = 0;
    FILE *f;

    for (int r = 0; r < c->size; r++)
        any |= differs[r];
    if (any == 0)
        return OK;
    if (c->rank != 0)
        return ERR_MISMATCH;
    f = open_memstream(&text, &n_text);
    if (!f)
        return FAIL(ERR_MISMATCH, "ranks differ from rank 0 (no memory to say where)");
    for (size_t i = 0; i < n; i++) {
        if (any & (uint64_t)1 << i) {
            fprintf(f, " %s", what[i]);
            write_ranks(f, differs, c->size, (uint64_t)1 << i);
        }
    }
    if (any & OTHER_LENGTH) {
        fputs(" the list of things compared", f);
        write_ranks(f, differs, c->size, OTHER_LENGTH);
    }
    fclose(f);
    FAIL(ERR_MISMATCH, "ranks differ from rank 0 in:%s", text ? text : " (no memory to say)");
    free(text);
    return ERR_MISMATCH;
}

int comm_check_same(struct comm *c, const char *const *what, const struct digest *d, size_t n)
{
    uint64_t *all, differs = 0;
    int rc;

    if (!c || n > COMM_MAX_SAME || (n > 0 && (!what || !d)))
        return FAIL(ERR_INTERNAL, "check_same of %zu things (at most %d), or a missing list", n,
                    COMM_MAX_SAME);
    TRY(compare_with_root(c, d, n, &differs));
    all = malloc((size_t)c->size * sizeof *all);
    rc = comm_agree(c, all ? OK : FAIL(ERR_NOMEM, "comparison of %d ranks", c->size));
    if (rc == OK)
        rc = comm_allgather(c, &differs, all, sizeof differs);
    if (rc == OK)
        rc = report(c, what, n, all);
    free(all);
    return rc;
}

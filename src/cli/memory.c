/* A plan that does not fit is refused before anything is allocated: Linux would grant the memory,
 * and kill a rank halfway through loading. Ranks of one node (the same host name) add up; weights
 * that are used in place count as the file's pages, which the kernel can drop. */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"
#include "status.h"

enum { LINE_BYTES = 4096 };
static const double MIB = 1048576.0;

/* ---- what there is ---- */

static size_t kernel_estimate(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    char line[LINE_BYTES];
    size_t kib = SIZE_MAX / 1024;

    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %zu kB", &kib) != 1)
        ;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* A number in a file of /sys/fs/cgroup; false for "max", or when there is none. */
static bool read_number(const char *group, const char *name, size_t *out)
{
    char path[LINE_BYTES + 64];
    FILE *f;
    int n = 0;

    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", group, name);
    f = fopen(path, "r");
    if (f) {
        n = fscanf(f, "%zu", out);
        fclose(f);
    }
    return n == 1;
}

/* Version 2 of control groups: the line "0::/path" of /proc/self/cgroup. The limit may stand at any
 * level above. */
static size_t group_rest(void)
{
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[LINE_BYTES], group[LINE_BYTES] = "";
    size_t rest = SIZE_MAX, most, used;

    while (f && fgets(line, sizeof line, f) && sscanf(line, "0::%4095s", group) != 1)
        ;
    if (f)
        fclose(f);
    while (group[0]) {
        if (read_number(group, "memory.max", &most) && read_number(group, "memory.current", &used))
            rest = most > used ? (most - used < rest ? most - used : rest) : 0;
        *strrchr(group, '/') = '\0';
    }
    return rest;
}

size_t memory_available_bytes(void)
{
    const size_t all = kernel_estimate(), mine = group_rest();

    return mine < all ? mine : all;
}

/* ---- what is asked for ---- */

static int plan_bytes(const struct engine_model *m, const struct engine_params *p, struct comm *c,
                      struct engine_memory *out)
{
    TRY(engine_plan_bytes(out, m, p, comm_size(c), comm_rank(c)));
    if (p->place == WEIGHTS_MAP) {
        out->total -= out->weights;
        out->weights = 0;
    }
    return OK;
}

struct claim {
    struct digest host;
    struct engine_memory mine;
    size_t smaller[2]; /* totals with int8 and int4 */
};

static int make_claim(struct claim *k, const struct engine_model *m, const struct engine_params *p,
                      struct comm *c)
{
    static const enum weights_form form[] = {WEIGHTS_INT8, WEIGHTS_INT4};

    k->host = machine_host_digest();
    TRY(plan_bytes(m, p, c, &k->mine));
    for (int i = 0; i < 2; i++) {
        struct engine_params other = *p;
        struct engine_memory bytes;

        other.weights = form[i];
        TRY(plan_bytes(m, &other, c, &bytes));
        k->smaller[i] = bytes.total;
    }
    return OK;
}

/* What this node's ranks want together. *first: this rank speaks for them. */
static struct claim sum_here(const struct claim *all, int n, int rank, int *n_here, bool *first)
{
    struct claim sum = {.host = all[rank].host};

    *n_here = 0;
    for (int r = 0; r < n; r++) {
        if (!digest_equal(all[r].host, sum.host))
            continue;
        if (*n_here == 0)
            *first = r == rank;
        ++*n_here;
        sum.mine.total += all[r].mine.total;
        sum.mine.weights += all[r].mine.weights;
        sum.mine.kv += all[r].mine.kv;
        sum.smaller[0] += all[r].smaller[0];
        sum.smaller[1] += all[r].smaller[1];
    }
    return sum;
}

static const char *advice(const struct claim *sum, size_t free_bytes)
{
    if (sum->smaller[0] <= free_bytes)
        return "; --weights int8 would fit";
    if (sum->smaller[1] <= free_bytes)
        return "; --weights int4 would fit";
    return "; not even --weights int4 would fit: more nodes are needed";
}

static int compare(const struct claim *all, struct comm *c)
{
    char host[MACHINE_HOST_BYTES];
    const size_t free_bytes = memory_available_bytes();
    bool first = false;
    int n_here;
    const struct claim sum = sum_here(all, comm_size(c), comm_rank(c), &n_here, &first);

    if (sum.mine.total <= free_bytes)
        return OK;
    if (!first)
        return ERR_NOMEM; /* the first rank of the node tells it */
    machine_host(host);
    return FAIL(ERR_NOMEM,
                "%s: %d rank(s) plan %.0f MiB (weights %.0f, keys and values %.0f, buffers %.0f), "
                "and %.0f MiB are free%s",
                host, n_here, (double)sum.mine.total / MIB, (double)sum.mine.weights / MIB,
                (double)sum.mine.kv / MIB,
                (double)(sum.mine.total - sum.mine.weights - sum.mine.kv) / MIB,
                (double)free_bytes / MIB, advice(&sum, free_bytes));
}

int memory_check(struct comm *c, const struct engine_model *m, const struct engine_params *p)
{
    struct claim mine, *all = calloc((size_t)comm_size(c), sizeof *all);
    int rc;

    memset(&mine, 0, sizeof mine);
    TRY_GOTO(comm_agree(c, all ? OK : FAIL(ERR_NOMEM, "a list of ranks")), free_all);
    TRY_GOTO(comm_agree(c, make_claim(&mine, m, p, c)), free_all);
    TRY_GOTO(comm_allgather(c, &mine, all, sizeof mine), free_all);
    rc = comm_agree(c, compare(all, c));
free_all:
    free(all);
    return rc;
}

/* Detection of N singletons: which variables tell how many copies were started.
 *
 * The first variable of the table that is set decides: an mpirun inside a Slurm job sets its own,
 * while Slurm's then describe the step that carries mpirun's daemons. Slurm's variables count only
 * inside a step of tasks: in a batch script and in salloc's shell, SLURM_NTASKS is merely what the
 * job asked for, and a plain start there is a plain start. */
#include "comm_launch.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "status.h"

struct source {
    const char *size;   /* variable with the number of copies; NULL: rank + 1 is a lower bound */
    const char *rank;   /* variable with this copy's number */
    const char *remedy; /* as in struct comm_launch */
    int is_slurm;
};

static const struct source sources[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", 0},
    {"PMI_SIZE", "PMI_RANK", "PMI_SIZE", 0}, /* MPICH, Intel MPI, Cray; srun --mpi=pmi2 */
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", 0},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_ID", 1},
    {"SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_ID", 1},
    {NULL, "PMIX_RANK", "PMIX_RANK", 0}, /* PMIx tells the size only over its socket */
};

/* Steps that are not tasks have numbers from here on: batch script, salloc's shell, and so on. */
static const int64_t SLURM_FIRST_SPECIAL_STEP = 0xfffffff0;

/* The number in a variable, or -1 if it is unset or anything else than a plain decimal. */
static int64_t number(const char *text)
{
    int64_t n = 0;

    if (!text || !*text || strlen(text) > 10)
        return -1;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return -1;
        n = 10 * n + (*p - '0');
    }
    return n;
}

void comm_launch_read(struct comm_launch *out,
                      const char *(*get)(const void *ctx, const char *name), const void *ctx)
{
    int64_t step = number(get(ctx, "SLURM_STEP_ID"));
    int in_step = step >= 0 && step < SLURM_FIRST_SPECIAL_STEP;

    *out = (struct comm_launch){.in_step = in_step, .has_pmix = get(ctx, "PMIX_RANK") != NULL};
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++) {
        const struct source *s = &sources[i];
        int64_t rank = number(get(ctx, s->rank));
        int64_t size = s->size ? number(get(ctx, s->size)) : rank + 1;

        if ((s->is_slurm && !in_step) || size < 1 || size > INT32_MAX)
            continue;
        out->n_ranks = (int)size;
        out->rank = rank >= 0 && rank < size ? (int)rank : 0;
        out->variable = s->size ? s->size : s->rank;
        out->remedy = s->remedy;
        return;
    }
}

struct advice {
    const char *library; /* how its name begins */
    const char *srun, *mpirun;
};

static const struct advice *advice_for(const char *library)
{
    static const struct advice known[] = {
        {"Open MPI", "srun --mpi=pmix", "Open MPI's own mpirun"},
        {"MPICH", "srun --mpi=pmi2", "MPICH's own mpiexec"},
        {"Intel", "srun --mpi=pmi2", "Intel MPI's own mpiexec"},
        {"MVAPICH", "srun --mpi=pmi2", "MVAPICH's own mpiexec"},
        {"", "srun --mpi=pmix", "the mpirun that belongs to it"},
    };
    const struct advice *a = known;

    while (strncmp(library, a->library, strlen(a->library)) != 0)
        a++;
    return a;
}

/* Only a warning: an old Open MPI that was built for Slurm's own PMI starts without PMIx. */
void comm_launch_warn(const struct comm_launch *l, const char *library)
{
    const struct advice *a = advice_for(library);

    if (l->in_step && l->n_ranks > 1 && l->rank == 0 && !l->has_pmix && a == advice_for("Open MPI"))
        log_rank(
            LOG_WARN, "comm",
            "this Slurm step has no PMIx server, which %s needs to find its ranks; if MPI does "
            "not start now, use `%s`, or %s in place of srun",
            library, a->srun, a->mpirun);
}

int comm_launch_check(const struct comm_launch *l, int n_ranks_mpi, const char *library)
{
    const struct advice *a = advice_for(library);

    if (l->n_ranks <= 1 || n_ranks_mpi != 1)
        return OK;
    if (l->rank > 0) /* one copy speaks for all: N equal messages help nobody */
        return ERR_COMM;
    return FAIL(
        ERR_COMM,
        "%s says that at least %d copies were started, but MPI (%s) sees one rank only: "
        "the launcher and this build's MPI do not match. Start with `%s` (`srun --mpi=list` "
        "shows what Slurm has) or with %s; to run alone on purpose, unset %s",
        l->variable, l->n_ranks, library, a->srun, a->mpirun, l->remedy);
}

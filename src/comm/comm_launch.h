/* Detection of N singletons: N copies of the program, each alone in its own MPI world.
 *
 * It happens when the launcher and the MPI library do not speak to each other (`srun` without
 * --mpi=pmix, another MPI's mpirun): every copy then believes to be rank 0 of 1 and does all the
 * work again, into the same files. The launcher's environment gives it away. */
#ifndef COMM_LAUNCH_H
#define COMM_LAUNCH_H

/* What the environment tells about the start. */
struct comm_launch {
    int n_ranks;          /* copies started, or 0: no launcher seen */
    int rank;             /* this copy's number, or 0 when nothing tells */
    const char *variable; /* the variable that told n_ranks; static text */
    const char *remedy;   /* the variable whose absence makes the start a plain one; static text */
    int in_step;          /* inside a Slurm step of tasks */
    int has_pmix;         /* a PMIx server is there to tell ranks about each other */
};

/* Pure: reads the environment through get(ctx, name), which returns NULL for an unset name. */
void comm_launch_read(struct comm_launch *out,
                      const char *(*get)(const void *ctx, const char *name), const void *ctx);
/* Before MPI starts: Open MPI under srun without a PMIx server usually ends the process inside
 * MPI_Init, with advice for those who build Slurm. The first copy warns, with advice for users. */
void comm_launch_warn(const struct comm_launch *l, const char *library);
/* After: ERR_COMM when several copies were started and MPI sees one rank; the first copy says what to do.
 * library: as comm_library gives it. */
int comm_launch_check(const struct comm_launch *l, int n_ranks_mpi, const char *library);

#endif

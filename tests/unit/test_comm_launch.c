// RANKS: 1
/* Detection of N singletons: the environments that launchers leave behind, and what MPI sees in
 * them. The values are those of Slurm 22.05, Open MPI 4.1 and MPICH; the special step numbers are
 * 0xfffffffa (salloc's shell) and 0xfffffffb (batch script). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../src/comm/comm_launch.h"
#include "comm.h"
#include "status.h"

struct start {
    const char *what;
    const char *env[12]; /* name, value, name, value, ..., NULL */
    const char *library;
    int mpi_size;
    int n_ranks, rank; /* expected reading */
    int rc;            /* expected verdict */
    const char *says;  /* part of the message; NULL: silent */
};

static const struct start starts[] = {
    {"plain start", {NULL}, "Open MPI v4.1.4", 1, 0, 0, OK, NULL},
    {"mpirun -n 4",
     {"OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_RANK", "2"},
     "Open MPI v4.1.4",
     4,
     4,
     2,
     OK,
     NULL},
    {"Open MPI's mpirun, MPICH's program",
     {"OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_RANK", "0"},
     "MPICH Version: 4.0.2",
     1,
     4,
     0,
     ERR_COMM,
     "MPICH's own mpiexec"},
    {"MPICH's mpiexec, Open MPI's program",
     {"PMI_SIZE", "3", "PMI_RANK", "0"},
     "Open MPI v4.1.4",
     1,
     3,
     0,
     ERR_COMM,
     "PMI_SIZE says that at least 3 copies"},
    {"the same, another copy: one speaks for all",
     {"PMI_SIZE", "3", "PMI_RANK", "1"},
     "Open MPI v4.1.4",
     1,
     3,
     1,
     ERR_COMM,
     NULL},
    {"srun without --mpi=pmix",
     {"SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "8", "SLURM_NTASKS", "8", "SLURM_PROCID", "0"},
     "Open MPI v4.1.4",
     1,
     8,
     0,
     ERR_COMM,
     "Start with `srun --mpi=pmix`"},
    {"srun of an older Slurm, MPICH",
     {"SLURM_STEP_ID", "3", "SLURM_NTASKS", "8", "SLURM_PROCID", "0"},
     "MPICH Version: 4.0.2",
     1,
     8,
     0,
     ERR_COMM,
     "Start with `srun --mpi=pmi2`"},
    {"an MPI nobody has heard of",
     {"SLURM_STEP_ID", "0", "SLURM_NTASKS", "8", "SLURM_PROCID", "0"},
     "Foo",
     1,
     8,
     0,
     ERR_COMM,
     "unset SLURM_STEP_ID"},
    {"srun --mpi=pmix",
     {"SLURM_STEP_ID", "0", "SLURM_NTASKS", "8", "SLURM_PROCID", "7", "PMIX_RANK", "7"},
     "Open MPI v4.1.4",
     8,
     8,
     7,
     OK,
     NULL},
    {"srun -n 1 in a job of 8",
     {"SLURM_STEP_ID", "2", "SLURM_STEP_NUM_TASKS", "1", "SLURM_NTASKS", "8"},
     "Open MPI v4.1.4",
     1,
     1,
     0,
     OK,
     NULL},
    {"plain start in a batch script: not a step",
     {"SLURM_NTASKS", "8", "SLURM_PROCID", "0", "SLURM_JOB_ID", "17"},
     "Open MPI v4.1.4",
     1,
     0,
     0,
     OK,
     NULL},
    {"plain start in a batch script that has a step number",
     {"SLURM_STEP_ID", "4294967291", "SLURM_NTASKS", "8", "SLURM_PROCID", "0"},
     "Open MPI v4.1.4",
     1,
     0,
     0,
     OK,
     NULL},
    {"plain start in salloc's shell",
     {"SLURM_STEP_ID", "4294967290", "SLURM_NTASKS", "8", "SLURM_PROCID", "0"},
     "Open MPI v4.1.4",
     1,
     0,
     0,
     OK,
     NULL},
    {"mpirun -n 1 in a job: its own variables come before Slurm's",
     {"OMPI_COMM_WORLD_SIZE", "1", "SLURM_STEP_ID", "0", "SLURM_NTASKS", "4"},
     "Open MPI v4.1.4",
     1,
     1,
     0,
     OK,
     NULL},
    {"PMIx tells the rank only: rank 2 knows of three copies",
     {"PMIX_RANK", "2"},
     "Open MPI v4.1.4",
     1,
     3,
     2,
     ERR_COMM,
     NULL},
    {"PMIx, rank 0: may be alone", {"PMIX_RANK", "0"}, "Open MPI v4.1.4", 1, 1, 0, OK, NULL},
    {"values that are no numbers tell nothing",
     {"OMPI_COMM_WORLD_SIZE", "four", "PMI_SIZE", "", "MV2_COMM_WORLD_SIZE", "-2", "SLURM_STEP_ID",
      "0", "SLURM_NTASKS", "99999999999999999999"},
     "Open MPI v4.1.4",
     1,
     0,
     0,
     OK,
     NULL},
    {"a rank outside the size is not believed",
     {"PMI_SIZE", "2", "PMI_RANK", "9"},
     "Open MPI v4.1.4",
     1,
     2,
     0,
     ERR_COMM,
     "PMI_SIZE"},
};

static const char *get(const void *ctx, const char *name)
{
    const struct start *s = ctx;

    for (size_t i = 0; i + 1 < sizeof s->env / sizeof s->env[0] && s->env[i]; i += 2) {
        if (strcmp(s->env[i], name) == 0)
            return s->env[i + 1];
    }
    return NULL;
}

static void test_starts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        const struct start *s = &starts[i];
        struct comm_launch l;

        print_message("%s\n", s->what);
        log_init(LOG_ERROR); /* forgets the last message */
        comm_launch_read(&l, get, s);
        assert_int_equal(l.n_ranks, s->n_ranks);
        assert_int_equal(l.rank, s->rank);
        assert_int_equal(comm_launch_check(&l, s->mpi_size, s->library), s->rc);
        if (s->says)
            assert_non_null(strstr(log_last_error(), s->says));
        else
            assert_string_equal(log_last_error(), "");
    }
}

/* The warning goes to the log only; a pipe in place of stderr shows whether it came. */
static int warns(const struct comm_launch *l, const char *library, const char *says)
{
    char text[1024] = "";
    int fd[2], saved = dup(STDERR_FILENO);

    assert_int_equal(pipe(fd), 0);
    assert_true(write(fd[1], "|", 1) == 1); /* so that the read below never blocks */
    dup2(fd[1], STDERR_FILENO);
    log_init(LOG_WARN);
    comm_launch_warn(l, library);
    dup2(saved, STDERR_FILENO);
    assert_true(read(fd[0], text, sizeof text - 1) > 0);
    close(fd[0]);
    close(fd[1]);
    close(saved);
    return strstr(text, says) != NULL;
}

static void test_warning_before_start(void **state)
{
    const struct comm_launch bare = {.n_ranks = 3, .in_step = 1};
    const struct comm_launch second = {.n_ranks = 3, .in_step = 1, .rank = 1};
    const struct comm_launch pmix = {.n_ranks = 3, .in_step = 1, .has_pmix = 1};
    const struct comm_launch one = {.n_ranks = 1, .in_step = 1};
    const struct comm_launch mpiexec = {.n_ranks = 3};

    (void)state;
    assert_true(warns(&bare, "Open MPI v4.1.4", "use `srun --mpi=pmix`"));
    assert_false(warns(&bare, "MPICH Version: 4.0.2", "comm"));
    assert_false(warns(&second, "Open MPI v4.1.4", "comm"));
    assert_false(warns(&pmix, "Open MPI v4.1.4", "comm"));
    assert_false(warns(&one, "Open MPI v4.1.4", "comm"));
    assert_false(warns(&mpiexec, "Open MPI v4.1.4", "comm"));
}

static void test_step_and_server(void **state)
{
    static const struct start step = {.env = {"SLURM_STEP_ID", "0", "SLURM_NTASKS", "3"}};
    static const struct start server = {.env = {"PMIX_RANK", "0", "SLURM_STEP_ID", "4294967291"}};
    struct comm_launch l;

    (void)state;
    comm_launch_read(&l, get, &step);
    assert_true(l.in_step && !l.has_pmix);
    comm_launch_read(&l, get, &server);
    assert_true(!l.in_step && l.has_pmix);
}

/* The library's name, without MPI being started. */
static void test_library(void **state)
{
    char name[COMM_LIBRARY_BYTES];

    (void)state;
    memset(name, 'x', sizeof name);
    comm_library(name);
    assert_true(strlen(name) > 4 && strlen(name) < 64);
    assert_null(strpbrk(name, ",\n\t"));
    assert_non_null(strpbrk(name, "0123456789"));
}

/* A daemon would be a child of this process. */
static void test_plain_start_has_no_daemon(void **state)
{
    const struct comm_params params = {.timeout_s = 60};
    char name[COMM_LIBRARY_BYTES];
    struct comm *c;

    (void)state;
    comm_library(name);
    if (strncmp(name, "Open MPI", 8) != 0)
        skip();
    assert_int_equal(comm_create_world(&c, &params), OK);
    assert_int_equal(comm_size(c), 1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    comm_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_warning_before_start),
        cmocka_unit_test(test_step_and_server),
        cmocka_unit_test(test_library),
        cmocka_unit_test(test_plain_start_has_no_daemon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

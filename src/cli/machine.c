/* Choice of table and threads; see machine.h.
 *
 * Who shares a host is found out by exchange, not from a launcher's variables. */
#include "machine.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "machine_gpu.h"
#include "ops_cuda.h"
#include "status.h"

enum { LIST_BYTES = 4096 };

/* The "0-3,8" of /proc/self/status; empty where there is none. */
static void allowed_cpus(char list[LIST_BYTES])
{
    static const char key[] = "Cpus_allowed_list:";
    FILE *f = fopen("/proc/self/status", "r");

    while (f && fgets(list, LIST_BYTES, f)) {
        if (strncmp(list, key, sizeof key - 1) == 0) {
            memmove(list, list + sizeof key - 1, strlen(list + sizeof key - 1) + 1);
            fclose(f);
            return;
        }
    }
    if (f)
        fclose(f);
    list[0] = '\0';
}

static int count_cpus(const char *list)
{
    long n = 0;

    while (*list) {
        char *end;
        long first = strtol(list, &end, 10), last = first;

        if (end == list)
            break;
        if (*end == '-')
            last = strtol(end + 1, &end, 10);
        n += last >= first ? last - first + 1 : 0;
        list = *end ? end + 1 : end;
    }
    if (n == 0)
        n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 && n < 65536 ? (int)n : 1;
}

int machine_n_cpus(void)
{
    char list[LIST_BYTES];

    allowed_cpus(list);
    return count_cpus(list);
}

void machine_host(char name[MACHINE_HOST_BYTES])
{
    memset(name, 0, MACHINE_HOST_BYTES);
    gethostname(name, MACHINE_HOST_BYTES - 1);
}

struct digest machine_host_digest(void)
{
    char name[MACHINE_HOST_BYTES];

    machine_host(name);
    return digest_of(name, strlen(name));
}

int machine_count_alike(struct comm *c, struct digest mine, struct machine_alike *out)
{
    struct digest *all = calloc((size_t)comm_size(c), sizeof *all);
    struct machine_alike a = {.first = comm_rank(c)};
    int rc;

    TRY_GOTO(comm_agree(c, all ? OK : FAIL(ERR_NOMEM, "a list of ranks")), free_all);
    TRY_GOTO(comm_allgather(c, &mine, all, sizeof mine), free_all);
    for (int r = 0; r < comm_size(c); r++) {
        if (!digest_equal(all[r], mine))
            continue;
        a.first = r < a.first ? r : a.first;
        a.n_before += r < comm_rank(c);
        a.n++;
    }
    *out = a;
free_all:
    free(all);
    return rc;
}

struct machine_params machine_params_of(const struct options *o)
{
    return (struct machine_params){.device = (enum option_device)o->device,
                                   .isa = (enum ops_isa)o->isa,
                                   .activations = (enum ops_activations)o->activations,
                                   .n_threads = o->threads,
                                   .share_gpu = o->share_gpu,
                                   .reproducible = o->reproducible,
                                   .cuda_graphs = o->cuda_graphs,
                                   .timeout_s = o->comm_timeout_s};
}

static int open_host_table(struct machine *m, const struct machine_params *p)
{
    const struct ops_cpu_params cpu = {.isa = p->isa, .n_threads = m->n_threads, .plan = p->plan};

    if (p->device == DEVICE_CPU || (p->device == DEVICE_AUTO && ops_cpu_best_isa() != OPS_ISA_AUTO))
        return ops_open_cpu(&m->device, &cpu);
    m->n_threads = 1;
    return ops_open_ref(&m->device);
}

int machine_takes_gpu(struct comm *c, const struct machine_params *p, bool *out)
{
    char reason[OPS_CUDA_REASON_BYTES];
    int64_t n_without = p->device == DEVICE_AUTO && ops_cuda_count(reason) == 0;

    if (p->device == DEVICE_AUTO)
        TRY(comm_allreduce_sum(c, &n_without, 1, DTYPE_I64));
    *out = p->device == DEVICE_CUDA || (p->device == DEVICE_AUTO && n_without == 0);
    return OK;
}

int machine_open(struct machine *m, const struct machine_params *p, struct comm *c)
{
    static const char *const what[] = {"device"};
    struct digest d;
    const char *name;
    struct machine_params params = *p;
    struct topology_plan own_plan;
    bool on_gpu;

    *m = (struct machine){0};
    if (!p->plan) {
        TRY(machine_plan(c, p, &own_plan));
        params.plan = &own_plan;
    }
    m->n_threads = params.plan->n_threads;
    TRY(machine_takes_gpu(c, p, &on_gpu));
    if (on_gpu)
        TRY(machine_open_gpu(&m->device, p, c));
    else
        TRY(comm_agree(c, open_host_table(m, &params)));
    TRY(comm_agree(c, ops_set_activations(m->device, p->activations)));
    name = ops_name(m->device);
    d = digest_of(name, strlen(name));
    return comm_check_same(c, what, &d, 1);
}

void machine_release(struct machine *m)
{
    ops_close(m->device);
    *m = (struct machine){0};
}

/* The machine as hwloc and the kernel know it; the only file that includes hwloc.
 *
 * Cores come in hwloc's logical order, in which neighbours share caches, then are put NUMA node
 * after NUMA node. A core near several NUMA nodes (plain and high-bandwidth memory) counts for the
 * first of them, which is where memory comes from unless somebody asks otherwise. The surprise:
 * hwloc's own look at the CPUs by cpuid would run this thread on each of them in turn; the kernel's
 * answers are complete, so it is left out. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "topology.h"

#include <hwloc.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sizes.h"
#include "status.h"
#include "topology_impl.h"

size_t topology_cpus_count(const struct topology_cpus *s)
{
    size_t n = 0;

    for (size_t w = 0; w < TOPOLOGY_MAX_CPUS / 64; w++)
        n += (size_t)__builtin_popcountll(s->word[w]);
    return n;
}

static void cpus_from_bitmap(struct topology_cpus *out, hwloc_const_bitmap_t bitmap)
{
    unsigned cpu;

    memset(out, 0, sizeof *out);
    hwloc_bitmap_foreach_begin(cpu, bitmap)
    {
        if (cpu < TOPOLOGY_MAX_CPUS)
            out->word[cpu / 64] |= (uint64_t)1 << cpu % 64;
    }
    hwloc_bitmap_foreach_end();
}

/* -1: near no NUMA node that this room has a number for. */
static int numa_of(const struct hwloc_obj *o)
{
    const int numa = o->nodeset ? hwloc_bitmap_first(o->nodeset) : 0;

    return numa < TOPOLOGY_MAX_NUMA ? numa : -1;
}

/* A machine without cores in its description (some virtual ones) has CPUs at least. */
static int list_cores(struct topology *out, hwloc_topology_t h)
{
    const hwloc_obj_type_t type =
        hwloc_get_nbobjs_by_type(h, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    const int n = hwloc_get_nbobjs_by_type(h, type);
    struct topology_core *core = calloc((size_t)(n > 0 ? n : 1), sizeof *core);
    size_t n_cores = 0;

    if (!core)
        return FAIL(ERR_NOMEM, "a list of %d cores", n);
    for (int numa = 0; numa < TOPOLOGY_MAX_NUMA; numa++) {
        for (int i = 0; i < n; i++) {
            const struct hwloc_obj *o = hwloc_get_obj_by_type(h, type, (unsigned)i);

            if (numa_of(o) != numa)
                continue;
            core[n_cores].numa = numa;
            cpus_from_bitmap(&core[n_cores].cpus, o->cpuset);
            n_cores += topology_cpus_count(&core[n_cores].cpus) > 0;
        }
    }
    *out = (struct topology){n_cores, core};
    return OK;
}

/* -1 from any of hwloc's calls is a machine that cannot be described. */
static int load(hwloc_topology_t h, const char *synthetic)
{
    if (synthetic)
        return hwloc_topology_set_synthetic(h, synthetic) == 0 && hwloc_topology_load(h) == 0;
    hwloc_topology_set_components(h, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    return hwloc_topology_load(h) == 0;
}

int topology_open(struct topology *out, const char *synthetic)
{
    hwloc_topology_t h;
    int rc;

    if (hwloc_topology_init(&h) != 0)
        return FAIL(ERR_NOMEM, "hwloc");
    if (load(h, synthetic))
        rc = list_cores(out, h);
    else
        rc = FAIL(ERR_UNSUPPORTED, "hwloc cannot describe %s", synthetic ? synthetic : "this node");
    hwloc_topology_destroy(h);
    return rc;
}

void topology_release(struct topology *t)
{
    free(t->core);
    *t = (struct topology){0};
}

/* ---- this process ---- */

void topology_grant_read(struct topology_grant *out, const char *root)
{
    memset(out, 0, sizeof *out);
    out->cpus = topology_bound();
    topology_quota_read(out, root);
}

void topology_bind(const struct topology_cpus *cpus)
{
    cpu_set_t set;

    if (topology_cpus_count(cpus) == 0)
        return;
    memcpy(&set, cpus, sizeof set);
    (void)sched_setaffinity(0, sizeof set, &set);
}

struct topology_cpus topology_bound(void)
{
    struct topology_cpus out = {{0}};
    cpu_set_t set;

    CPU_ZERO(&set);
    _Static_assert(sizeof set == sizeof out, "a set of CPUs");
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        memcpy(&out, &set, sizeof set);
    return out;
}

/* The kernel's own call: hwloc's wants its description of the machine, which is long gone. */
void topology_spread(const struct topology_plan *p, void *memory, size_t n_bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = size_align((uintptr_t)memory, page),
                    end = ((uintptr_t)memory + n_bytes) & ~(uintptr_t)(page - 1);
    unsigned long nodes = 0;

    _Static_assert(TOPOLOGY_MAX_NUMA <= 8 * sizeof nodes, "a set of NUMA nodes");
    for (int i = 0; i < p->n_places; i++)
        nodes |= 1ul << p->place[i].numa;
    if (p->n_places > 1 && begin < end)
        (void)syscall(SYS_mbind, begin, end - begin, MPOL_INTERLEAVE, &nodes, TOPOLOGY_MAX_NUMA + 1,
                      0); /* it reads one bit less than it is told */
}

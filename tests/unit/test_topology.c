// RANKS: 1
/* Which cores ranks and threads take, on machines that hwloc makes up from a line of text, and what
 * control groups allow, read from folders made up here. CPUs are numbered as they lie. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "status.h"
#include "topology.h"

enum { MAX_RANKS = 16 };

static struct topology_cpus cpus(int first, int last)
{
    struct topology_cpus s = {{0}};

    for (int i = first; i <= last; i++)
        s.word[i / 64] |= (uint64_t)1 << i % 64;
    return s;
}

static struct topology_grant grant(int first, int last)
{
    return (struct topology_grant){.cpus = cpus(first, last)};
}

static void assert_cpus(const struct topology_cpus *s, int first, int last)
{
    const struct topology_cpus want = cpus(first, last);

    assert_non_null(s);
    assert_memory_equal(s, &want, sizeof want);
}

/* n_ranks ranks that may all run on CPUs 0 .. n_cpus - 1. */
static struct topology_plan plan_of(const char *machine, int n_cpus, size_t n_ranks, size_t rank,
                                    int n_wanted)
{
    struct topology_grant g[MAX_RANKS];
    struct topology_plan p;
    struct topology t;

    for (size_t i = 0; i < n_ranks; i++)
        g[i] = grant(0, n_cpus - 1);
    assert_int_equal(topology_open(&t, machine), OK);
    topology_plan_make(&p, &t, g, n_ranks, rank, n_wanted);
    topology_release(&t);
    return p;
}

static void cores_are_listed_by_numa_node(void **state)
{
    struct topology t;

    (void)state;
    assert_int_equal(topology_open(&t, "numa:2 core:4 pu:2"), OK);
    assert_int_equal(t.n_cores, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(t.core[i].numa, i / 4);
        assert_cpus(&t.core[i].cpus, 2 * i, 2 * i + 1);
    }
    topology_release(&t);
    assert_int_equal(topology_open(&t, "no machine"), ERR_UNSUPPORTED);
    assert_non_null(strstr(log_last_error(), "no machine"));
    assert_int_equal(topology_open(&t, NULL), OK); /* this one has something, too */
    assert_true(t.n_cores > 0);
    topology_release(&t);
}

static void one_rank_takes_all_cores(void **state)
{
    const struct topology_plan p = plan_of("numa:2 core:4 pu:2", 16, 1, 0, 0);

    (void)state;
    assert_int_equal(p.n_threads, 8); /* a core each, not a CPU */
    assert_true(p.is_bound && !p.is_crowded);
    assert_int_equal(p.n_places, 2);
    assert_int_equal(p.place[1].numa, 1);
    assert_cpus(topology_cpus_of(&p, 0), 0, 7);
    assert_cpus(topology_cpus_of(&p, 3), 0, 7);
    assert_cpus(topology_cpus_of(&p, 4), 8, 15);
    assert_cpus(topology_cpus_of(&p, 7), 8, 15);
    assert_null(topology_cpus_of(&p, 8));
}

static void one_numa_node_binds_nothing(void **state)
{
    const struct topology_plan p = plan_of("core:4 pu:1", 4, 2, 1, 0);

    (void)state;
    assert_int_equal(p.n_threads, 2);
    assert_int_equal(p.n_places, 1);
    assert_false(p.is_bound);
    assert_null(topology_cpus_of(&p, 0));
}

/* Four nodes, two ranks: two whole nodes each; three ranks: even shares, though borders are crossed. */
static void fewer_ranks_than_numa_nodes(void **state)
{
    const struct topology_plan half = plan_of("numa:4 core:4 pu:1", 16, 2, 1, 0),
                               third = plan_of("numa:4 core:4 pu:1", 16, 3, 1, 0);

    (void)state;
    assert_int_equal(half.n_threads, 8);
    assert_int_equal(half.n_places, 2);
    assert_cpus(&half.place[0].cpus, 8, 11);
    assert_cpus(&half.place[1].cpus, 12, 15);
    assert_int_equal(third.n_threads, 6); /* 5, 6, 5 */
    assert_int_equal(third.n_places, 2);
    assert_cpus(&third.place[0].cpus, 5, 7);
    assert_cpus(&third.place[1].cpus, 8, 10);
    assert_int_equal(third.place[0].n_threads, 3);
}

static void more_ranks_than_numa_nodes(void **state)
{
    static const int begin[] = {0, 3, 5, 8};

    (void)state;
    for (size_t r = 0; r < 3; r++) {
        const struct topology_plan p = plan_of("numa:2 core:4 pu:1", 8, 3, r, 0);

        assert_int_equal(p.n_threads, begin[r + 1] - begin[r]);
        assert_cpus(topology_cpus_of(&p, 0), begin[r], r == 1 ? 3 : begin[r + 1] - 1);
    }
    for (size_t r = 0; r < 4; r++) {
        const struct topology_plan p = plan_of("numa:2 core:4 pu:1", 8, 4, r, 0);

        assert_int_equal(p.n_places, 1);
        assert_int_equal(p.place[0].numa, r / 2);
        assert_cpus(&p.place[0].cpus, 2 * (int)r, 2 * (int)r + 1);
    }
}

/* Seven of eight CPUs are ours: 4 on one node and 3 on the other. The border moves by half a core. */
static void uneven_nodes(void **state)
{
    const struct topology_plan a = plan_of("numa:2 core:4 pu:1", 7, 2, 0, 0),
                               b = plan_of("numa:2 core:4 pu:1", 7, 2, 1, 0);

    (void)state;
    assert_int_equal(a.n_threads, 4);
    assert_int_equal(b.n_threads, 3);
    assert_int_equal(a.n_places, 1);
    assert_cpus(&b.place[0].cpus, 4, 6);
}

static void ranks_beyond_cores_share_cpus(void **state)
{
    const struct topology_plan threads = plan_of("numa:1 core:2 pu:2", 4, 4, 2, 0),
                               crowd = plan_of("numa:2 core:1 pu:1", 2, 5, 3, 0);

    (void)state;
    assert_int_equal(threads.n_threads, 1);
    assert_false(threads.is_crowded);
    assert_cpus(&threads.place[0].cpus, 2, 2);
    assert_int_equal(crowd.n_threads, 1);
    assert_true(crowd.is_crowded);
    assert_false(crowd.is_bound);
}

static void more_threads_than_fit_are_told(void **state)
{
    const struct topology_plan p = plan_of("numa:2 core:2 pu:2", 8, 2, 1, 6),
                               smt = plan_of("numa:2 core:2 pu:2", 8, 2, 1, 4);

    (void)state;
    assert_int_equal(p.n_threads, 6);
    assert_int_equal(p.n_fit, 2);
    assert_true(p.is_crowded);
    assert_int_equal(p.n_sharing, 2);
    assert_int_equal(p.n_cores, 4);
    assert_int_equal(p.n_cpus, 8);
    assert_cpus(topology_cpus_of(&p, 5), 4, 7);
    assert_false(smt.is_crowded); /* a CPU each */
}

/* What a launcher has bound stays as it is; sets that only overlap are not divided. */
static void bound_ranks_keep_their_cpus(void **state)
{
    struct topology_grant g[3] = {grant(0, 1), grant(2, 7), grant(2, 7)};
    struct topology_plan p;
    struct topology t;

    (void)state;
    assert_int_equal(topology_open(&t, "numa:2 core:4 pu:1"), OK);
    topology_plan_make(&p, &t, g, 3, 0, 0);
    assert_int_equal(p.n_threads, 2);
    assert_int_equal(p.n_sharing, 1);
    topology_plan_make(&p, &t, g, 3, 2, 0);
    assert_int_equal(p.n_threads, 3);
    assert_cpus(topology_cpus_of(&p, 0), 5, 7);
    g[2] = grant(4, 7);
    topology_plan_make(&p, &t, g, 3, 1, 0);
    assert_int_equal(p.n_threads, 3); /* six cores, two ranks */
    assert_false(p.is_bound);
    topology_plan_make(&p, &t, g, 3, 2, 0);
    assert_int_equal(p.n_threads, 2);
    topology_release(&t);
}

static void a_quota_bounds_threads(void **state)
{
    struct topology_grant g[3] = {grant(0, 7), grant(0, 7), grant(0, 7)};
    struct topology_plan p;
    struct topology t;

    (void)state;
    assert_int_equal(topology_open(&t, "core:8 pu:1"), OK);
    for (int i = 0; i < 3; i++)
        g[i].n_quotas = 1, g[i].quota[0] = (struct topology_quota){5500, 7};
    topology_plan_make(&p, &t, g, 1, 0, 0);
    assert_int_equal(p.n_threads, 5);
    topology_plan_make(&p, &t, g, 2, 1, 0);
    assert_int_equal(p.n_threads, 2); /* half of 5.5 */
    assert_false(p.is_crowded);
    topology_plan_make(&p, &t, g, 2, 1, 4);
    assert_true(p.is_crowded);
    g[0].quota[0].milli = 500;
    topology_plan_make(&p, &t, g, 1, 0, 0);
    assert_int_equal(p.n_threads, 1);
    topology_release(&t);
}

/* Ranks in groups of their own, below one that all share, and one more beside it. */
static void quotas_above_are_divided(void **state)
{
    static const struct {
        uint64_t own[4], shared;
        int n_threads[4], n_quota_ranks[4];
    } some[] = {
        {{4000, 4000, 4000, 4000}, 6000, {2, 2, 2, 4}, {3, 3, 3, 1}},
        {{1000, 4000, 4000, 2500}, 12500, {1, 4, 4, 2}, {1, 1, 1, 1}}, /* own ones are smaller */
        {{4000, 4000, 4000, 9000}, 900, {1, 1, 1, 9}, {3, 3, 3, 1}},
    };
    struct topology t;

    (void)state;
    assert_int_equal(topology_open(&t, "core:64 pu:1"), OK);
    for (size_t k = 0; k < sizeof some / sizeof some[0]; k++) {
        struct topology_grant g[4];

        for (int i = 0; i < 4; i++) {
            g[i] = grant(0, 63);
            g[i].n_quotas = i < 3 ? 2 : 1;
            g[i].quota[0] = (struct topology_quota){some[k].own[i], 100 + (uint64_t)i};
            g[i].quota[1] = (struct topology_quota){some[k].shared, 1};
        }
        for (size_t i = 0; i < 4; i++) {
            struct topology_plan p;

            topology_plan_make(&p, &t, g, 4, i, 0);
            assert_int_equal(p.n_threads, some[k].n_threads[i]);
            assert_int_equal(p.n_quota_ranks, some[k].n_quota_ranks[i]);
            assert_int_equal(p.is_crowded, k == 2 && i < 3);
            topology_plan_make(&p, &t, g, 4, i, some[k].n_threads[i] + 1);
            assert_true(p.is_crowded);
        }
    }
    topology_release(&t);
}

/* Every core is taken once, whatever the machine and the number of ranks. */
static void shares_cover_the_machine(void **state)
{
    static const char *const machine[] = {"numa:1 core:13 pu:1", "numa:3 core:5 pu:1",
                                          "numa:8 core:2 pu:1", "numa:5 core:3 pu:1"};
    static const int n_cpus[] = {13, 15, 16, 15};

    (void)state;
    for (size_t m = 0; m < 4; m++)
        for (size_t n = 1; n <= 13; n++) {
            struct topology_cpus all = {{0}};
            size_t taken = 0;

            for (size_t r = 0; r < n; r++) {
                const struct topology_plan p = plan_of(machine[m], n_cpus[m], n, r, 0);

                assert_true(p.n_threads >= 1);
                assert_true(p.n_threads + 1 >= n_cpus[m] / (int)n);
                for (int k = 0; k < p.n_places; k++) {
                    taken += topology_cpus_count(&p.place[k].cpus);
                    for (size_t w = 0; w < TOPOLOGY_MAX_CPUS / 64; w++)
                        all.word[w] |= p.place[k].cpus.word[w];
                }
            }
            assert_int_equal(taken, n_cpus[m]);
            assert_int_equal(topology_cpus_count(&all), n_cpus[m]);
        }
}

/* ---- control groups ---- */

static void put(const char *root, const char *path, const char *text)
{
    char at[512];
    FILE *f;

    snprintf(at, sizeof at, "%s/%s", root, path);
    for (char *p = at + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
        *p = '\0';
        mkdir(at, 0700);
    }
    f = fopen(at, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void remove_root(const char *root)
{
    char command[512];

    snprintf(command, sizeof command, "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

static struct topology_grant grant_in(const char *root)
{
    struct topology_grant g;

    topology_grant_read(&g, root);
    assert_true(topology_cpus_count(&g.cpus) > 0);
    return g;
}

/* Quotas as they are found on the way up. */
static void assert_quotas(const char *root, int n, uint64_t first, uint64_t second)
{
    const struct topology_grant g = grant_in(root);

    assert_int_equal(g.n_quotas, n);
    if (n > 0)
        assert_int_equal(g.quota[0].milli, first);
    if (n > 1)
        assert_int_equal(g.quota[1].milli, second);
}

static void quotas_are_read_on_the_way_up(void **state)
{
    char root[] = "/tmp/paligrid_quota_XXXXXX";
    struct topology_grant g, other;

    (void)state;
    assert_non_null(mkdtemp(root));
    assert_quotas(root, 0, 0, 0); /* nothing to read */
    put(root, "proc/self/cgroup", "5:memory:/x\n0::/job/task\n");
    put(root, "sys/fs/cgroup/job/task/cpu.max", "max 100000\n");
    assert_quotas(root, 0, 0, 0);
    put(root, "sys/fs/cgroup/cpu.max", "1600000 100000\n");
    assert_quotas(root, 1, 16000, 0);
    put(root, "sys/fs/cgroup/job/cpu.max", "250000 100000\n");
    assert_quotas(root, 2, 2500, 16000);
    g = grant_in(root);
    assert_true(g.quota[0].group != g.quota[1].group);
    put(root, "sys/fs/cgroup/job/another/cpu.max", "150000 100000\n");
    put(root, "proc/self/cgroup", "0::/job/another\n"); /* a sibling with a quota of its own */
    other = grant_in(root);
    assert_int_equal(other.n_quotas, 3);
    assert_int_equal(other.quota[0].milli, 1500);
    for (int i = 0; i < 2; i++)
        assert_true(other.quota[1 + i].group == g.quota[i].group);
    put(root, "sys/fs/cgroup/job/cpu.max", "nonsense\n");
    assert_quotas(root, 2, 1500, 16000);
    remove_root(root);
}

/* More levels than there is room for: the smallest quotas stay. */
static void the_smallest_quotas_are_kept(void **state)
{
    char root[] = "/tmp/paligrid_quota_XXXXXX", path[128] = "sys/fs/cgroup", file[160], text[64];
    struct topology_grant g;
    uint64_t sum = 0;

    (void)state;
    assert_non_null(mkdtemp(root));
    put(root, "proc/self/cgroup", "0::/a/a/a/a/a/a/a/a/a/a\n");
    for (int depth = 0; depth <= 10; depth++) { /* 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11 CPUs */
        snprintf(file, sizeof file, "%s/cpu.max", path);
        snprintf(text, sizeof text, "%d00000 100000\n", depth == 10 ? 11 : (3 * depth + 3) % 11);
        put(root, file, text);
        strcat(path, "/a");
    }
    g = grant_in(root);
    assert_int_equal(g.n_quotas, TOPOLOGY_MAX_QUOTAS);
    for (int i = 0; i < g.n_quotas; i++)
        sum += g.quota[i].milli;
    assert_int_equal(sum, 1000 * (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8));
    remove_root(root);
}

static void quotas_of_version_one(void **state)
{
    char root[] = "/tmp/paligrid_quota_XXXXXX", link[64];

    (void)state;
    assert_non_null(mkdtemp(root));
    put(root, "proc/self/cgroup", "7:cpuset:/\n4:cpu,cpuacct:/docker/1\n0::/\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    snprintf(link, sizeof link, "%s/sys/fs/cgroup/cpu", root);
    assert_int_equal(symlink("cpu,cpuacct", link), 0); /* the same groups under another name */
    assert_quotas(root, 0, 0, 0);
    put(root, "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "350000\n");
    put(root, "sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
    assert_quotas(root, 1, 3500, 0);
    remove_root(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cores_are_listed_by_numa_node),
        cmocka_unit_test(one_rank_takes_all_cores),
        cmocka_unit_test(one_numa_node_binds_nothing),
        cmocka_unit_test(fewer_ranks_than_numa_nodes),
        cmocka_unit_test(more_ranks_than_numa_nodes),
        cmocka_unit_test(uneven_nodes),
        cmocka_unit_test(ranks_beyond_cores_share_cpus),
        cmocka_unit_test(more_threads_than_fit_are_told),
        cmocka_unit_test(bound_ranks_keep_their_cpus),
        cmocka_unit_test(a_quota_bounds_threads),
        cmocka_unit_test(quotas_above_are_divided),
        cmocka_unit_test(shares_cover_the_machine),
        cmocka_unit_test(quotas_are_read_on_the_way_up),
        cmocka_unit_test(the_smallest_quotas_are_kept),
        cmocka_unit_test(quotas_of_version_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

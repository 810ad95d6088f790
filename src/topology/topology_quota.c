/* How much of its CPUs a control group lets this process use at a time.
 *
 * Version 2 says it in cpu.max ("200000 100000": 200 ms of every 100 ms, "max": all), version 1 in
 * cpu.cfs_quota_us (-1: all) and cpu.cfs_period_us. A group is bound by those above it, too, which
 * other processes may share although their own groups are others; so all quotas on the way up are
 * kept. A group is known by its folder's inode, not by its path: inside a container the path in
 * /proc/self/cgroup may be the host's, and what is mounted the container's own group, where the way
 * up ends. */
#include "topology_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "digest.h"

enum { PATH_BYTES = 4096, LINE_BYTES = 4096 };

static bool read_line(const char *path, char line[LINE_BYTES])
{
    FILE *f = fopen(path, "r");
    const bool was_read = f && fgets(line, LINE_BYTES, f);

    if (f)
        fclose(f);
    if (was_read)
        line[strcspn(line, "\n")] = '\0';
    return was_read;
}

/* Thousandths of a CPU; 0: no limit. */
static uint64_t milli_of(const char *quota, const char *period)
{
    const long long q = strtoll(quota, NULL, 10), p = strtoll(period, NULL, 10);

    if (q <= 0 || p <= 0 || q > INT64_MAX / 1000)
        return 0;
    return q * 1000 < p ? 1 : (uint64_t)(q * 1000 / p);
}

static uint64_t quota_v2(const char *folder)
{
    char path[PATH_BYTES + 32], line[LINE_BYTES], *period;

    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!read_line(path, line))
        return 0;
    period = strchr(line, ' ');
    return period ? milli_of(line, period) : 0;
}

static uint64_t quota_v1(const char *folder)
{
    char path[PATH_BYTES + 32], quota[LINE_BYTES], period[LINE_BYTES];

    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_line(path, quota))
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    return read_line(path, period) ? milli_of(quota, period) : 0;
}

/* The group at `folder` gets so much. Where there is no more room, the largest quota gives way. */
static void add_quota(struct topology_grant *out, uint64_t milli, const char *folder)
{
    struct topology_quota *largest = &out->quota[0];
    struct stat s;
    uint64_t id[2], group;

    if (milli == 0 || stat(folder, &s) != 0)
        return;
    id[0] = (uint64_t)s.st_dev;
    id[1] = (uint64_t)s.st_ino;
    group = digest_checksum(id, sizeof id);
    for (int i = 0; i < out->n_quotas; i++) {
        if (out->quota[i].group == group)
            return;
        if (out->quota[i].milli > largest->milli)
            largest = &out->quota[i];
    }
    if (out->n_quotas < TOPOLOGY_MAX_QUOTAS)
        largest = &out->quota[out->n_quotas++];
    else if (milli >= largest->milli)
        return;
    *largest = (struct topology_quota){milli, group};
}

/* From the group `path` below `mount` upwards. */
static void search(struct topology_grant *out, const char *mount, const char *path,
                   uint64_t (*quota)(const char *folder))
{
    char folder[PATH_BYTES];
    const size_t n_mount = strlen(mount);
    const int n = snprintf(folder, sizeof folder, "%s%s", mount, path);

    if (n < 0 || (size_t)n >= sizeof folder)
        return;
    for (;;) {
        char *last;

        add_quota(out, quota(folder), folder);
        last = strrchr(folder, '/');
        if (!last || (size_t)(last - folder) < n_mount)
            return;
        *last = '\0';
    }
}

static bool has_word(const char *list, const char *word)
{
    const size_t n = strlen(word);

    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == '\0' || at[n] == ','))
            return true;
    return false;
}

/* A line is "number:controllers:path"; version 2 has number 0 and no controllers. */
static void take_line(struct topology_grant *out, const char *root, char *line)
{
    char mount[PATH_BYTES], *controllers = strchr(line, ':'), *path;

    path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return;
    *path++ = '\0';
    controllers++;
    path[strcspn(path, "\n")] = '\0';
    if (*controllers == '\0') {
        snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
        search(out, mount, path, quota_v2);
        return;
    }
    if (!has_word(controllers, "cpu"))
        return;
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/%s", root, controllers);
    search(out, mount, path, quota_v1);
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root); /* the usual link to it */
    search(out, mount, path, quota_v1);
}

void topology_quota_read(struct topology_grant *out, const char *root)
{
    char path[PATH_BYTES], line[LINE_BYTES];
    FILE *f;

    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        take_line(out, root, line);
    if (f)
        fclose(f);
}

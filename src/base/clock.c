/* Monotonic time, and the peak memory the kernel has counted for this process.
 *
 * Peak memory is VmHWM of /proc/self/status (kB): unlike getrusage's ru_maxrss it is not inherited
 * from a larger parent through fork and exec. Systems without /proc report 0, "unknown".
 *
 * When the process began is field 22 of /proc/self/stat, in ticks after the machine's start; the
 * program's name before it may hold blanks and parentheses, so fields count from the last one. */
#include "clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_process_us(void)
{
    FILE *f = fopen("/proc/self/stat", "r");
    const long ticks_per_s = sysconf(_SC_CLK_TCK);
    unsigned long long start = 0;
    struct timespec now;
    char line[1024];
    const char *rest = NULL;

    if (!f)
        return 0;
    if (fgets(line, sizeof line, f))
        rest = strrchr(line, ')');
    fclose(f);
    for (int field = 2; rest && field < 22; field++)
        rest = strchr(rest + 1, ' ');
    if (!rest || sscanf(rest, "%llu", &start) != 1 || ticks_per_s <= 0)
        return 0;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 -
           (int64_t)(start * 1000000ULL / (unsigned long long)ticks_per_s);
}

size_t clock_peak_rss_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;

    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmHWM: %zu kB", &kib) == 1)
            break;
    }
    fclose(f);
    return kib * 1024;
}

/* Monotonic time, and the peak memory the kernel has counted for this process.
 *
 * Peak memory is VmHWM of /proc/self/status (kB): unlike getrusage's ru_maxrss it is not inherited
 * from a larger parent through fork and exec. Systems without /proc report 0, "unknown". */
#include "clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
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

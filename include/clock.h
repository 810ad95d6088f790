/* Monotonic time and this process's memory, for timings, deadlines and reports. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_us(void);            /* monotonic microseconds */
int64_t clock_process_us(void);    /* since this process began; to 10 ms, 0 when unknown */
size_t clock_peak_rss_bytes(void); /* VmHWM of this process, 0 when unknown */

#endif

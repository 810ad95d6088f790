/* Monotonic time and this process's memory, for timings, deadlines and reports. */
#ifndef CLOCK_H
#define CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_us(void);            /* monotonic microseconds */
size_t clock_peak_rss_bytes(void); /* VmHWM of this process, 0 when unknown */

#endif

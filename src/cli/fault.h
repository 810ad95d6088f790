/* Faults on purpose, for campaigns that kill: PALIGRID_FAULT="moment:n[:rank]" ends the process
 * with SIGKILL when the named moment passes for the n-th time, on that rank (default 0). Moments are
 * those of results.h, and of the coordinator: after_deal, after_answer, mid_gather, before_pack. A
 * moment with a file's name ("before_rename results.h5") also answers to its first word. */
#ifndef FAULT_H
#define FAULT_H

#include <stdatomic.h>

struct fault {
    char moment[80];
    long n;
    int rank; /* where; -1: nowhere */
    atomic_long passed;
};

/* ERR_USAGE when the variable makes no sense. */
int fault_init(struct fault *f, int rank);
/* For the hooks of rooms below: context is a struct fault. */
void fault_moment(void *context, const char *name);

#endif

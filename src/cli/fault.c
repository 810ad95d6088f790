/* Faults on purpose; see fault.h. */
#include "fault.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "status.h"

int fault_init(struct fault *f, int rank)
{
    const char *text = getenv("PALIGRID_FAULT");
    int where = 0, n_read = 0;

    memset(f->moment, 0, sizeof f->moment);
    f->n = 0;
    f->rank = -1;
    atomic_init(&f->passed, 0);
    if (!text || !*text)
        return OK;
    if (sscanf(text, "%79[^:]:%ld%n:%d%n", f->moment, &f->n, &n_read, &where, &n_read) < 2 ||
        f->n < 1 || text[n_read] != '\0')
        return FAIL(ERR_USAGE, "PALIGRID_FAULT='%.100s' is not moment:n or moment:n:rank", text);
    f->rank = where == rank ? rank : -1;
    return OK;
}

void fault_moment(void *context, const char *name)
{
    struct fault *f = context;
    const size_t n = strlen(f->moment);

    if (f->rank < 0 || strncmp(name, f->moment, n) != 0 || (name[n] != '\0' && name[n] != ' '))
        return;
    if (atomic_fetch_add(&f->passed, 1) + 1 == f->n)
        raise(SIGKILL);
}

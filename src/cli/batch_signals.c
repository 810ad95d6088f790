/* Counting signals; see batch_signals.h.
 *
 * A handler can reach nothing but globals: these two are the program's only ones besides the
 * log's. */
#include "batch_signals.h"

#include <signal.h>
#include <string.h>

static const int signals[] = {SIGTERM, SIGUSR1, SIGINT};
static volatile int signals_count;
static volatile sig_atomic_t signals_last;

static void count(int number)
{
    signals_last = number;
    signals_count++;
}

static void set_all(void (*handler)(int))
{
    struct sigaction a;

    memset(&a, 0, sizeof a);
    a.sa_handler = handler;
    a.sa_flags = SA_RESTART; /* a read goes on; whoever must end looks at the count */
    sigemptyset(&a.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &a, NULL);
}

void batch_signals_init(void)
{
    set_all(count);
}

/* A launcher that ends all ranks when the first leaves (srun -K) sends SIGTERM to those that are
 * just leaving, too; the exit status is to stay theirs. */
void batch_signals_release(void)
{
    set_all(SIG_IGN);
    signal(SIGINT, SIG_DFL);
}

const volatile int *batch_signals_count(void)
{
    return &signals_count;
}

int batch_signals_last(void)
{
    return signals_last;
}

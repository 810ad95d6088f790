/* Signals that ask a batch to end: SIGTERM, SIGUSR1, SIGINT. The first one drains, the second one
 * leaves at once. */
#ifndef BATCH_SIGNALS_H
#define BATCH_SIGNALS_H

/* Until batch_signals_release they are counted instead of ending the process. */
void batch_signals_init(void);
/* The process is about to end: only SIGINT has an effect now. */
void batch_signals_release(void);
const volatile int *batch_signals_count(void);
int batch_signals_last(void); /* the signal that came last, 0: none */

#endif

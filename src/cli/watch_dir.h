/* Where ranks tell what they do (comm.h, "where ranks are"): writer and reader must mean the same
 * folder. */
#ifndef WATCH_DIR_H
#define WATCH_DIR_H

/* PALIGRID_WATCH_DIR, else the node's memory /dev/shm, else TMPDIR, else /tmp; NULL when that
 * variable is empty: nowhere. */
const char *watch_dir(void);

#endif

/* The system-call filter of the decode worker; sandbox_seccomp.c or sandbox_none.c, whichever
 * the build found a library for. */
#ifndef SANDBOX_H
#define SANDBOX_H

/* From here on this process may use its memory, its open sockets and files, and exit; opening a
 * file fails, anything else kills it. Returns 1, or 0 when the filter cannot be had (no library
 * at build time, or a kernel that refuses): the other limits then stand alone. */
int sandbox_enter(void);

#endif

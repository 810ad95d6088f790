/* Which program this is: for --version, info, results, and the digest that ranks compare. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "digest.h"

/* Digest of version, compiler, flags, C library and the executable's own bytes. Ranks that
 * differ in any could round differently. */
struct digest identity_of_build(void);
/* "glibc 2.36", or "unknown". */
const char *identity_libc(char *buf, size_t n_buf);

#endif

/* Identity of the running program; see identity.h.
 *
 * The executable is hashed as a file: a few MB at memory speed, and it cannot be forgotten to
 * update. The C library is named because tanhf and expf come from it. */
#include "identity.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "build_info.h"

enum { BLOCK_BYTES = 1 << 16 };

#ifdef _CS_GNU_LIBC_VERSION
const char *identity_libc(char *buf, size_t n_buf)
{
    if (confstr(_CS_GNU_LIBC_VERSION, buf, n_buf) == 0)
        snprintf(buf, n_buf, "unknown");
    return buf;
}
#else /* another C library; its version is not asked for */
const char *identity_libc(char *buf, size_t n_buf)
{
    snprintf(buf, n_buf, "unknown");
    return buf;
}
#endif

static struct digest chain_text(struct digest d, const char *text)
{
    return digest_chain(d, text, strlen(text));
}

struct digest identity_of_build(void)
{
    char libc[64], block[BLOCK_BYTES];
    struct digest d = digest_of(build_version(), strlen(build_version()));
    FILE *f = fopen("/proc/self/exe", "rb");
    size_t n;

    d = chain_text(d, build_compiler());
    d = chain_text(d, build_flags());
    d = chain_text(d, identity_libc(libc, sizeof libc));
    while (f && (n = fread(block, 1, sizeof block, f)) > 0)
        d = digest_chain(d, block, n);
    if (f)
        fclose(f);
    return d;
}

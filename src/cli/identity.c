/* Identity of the running program; see identity.h.
 *
 * The program is hashed as it lies in memory, what is never written of it: a few MB, and it cannot be
 * forgotten to update. /proc/self/exe would be the dynamic loader's where that was called by name
 * (bundles). The C library is named because tanhf and expf come from it. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "identity.h"

#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "build_info.h"

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

/* The first object is the program. */
static int chain_segments(struct dl_phdr_info *program, size_t size, void *context)
{
    struct digest *d = context;

    (void)size;
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &program->dlpi_phdr[i];

        if (h->p_type == PT_LOAD && (h->p_flags & PF_R) && !(h->p_flags & PF_W))
            *d = digest_chain(*d, (const char *)program->dlpi_addr + h->p_vaddr, h->p_memsz);
    }
    return 1;
}

struct digest identity_of_build(void)
{
    char libc[64];
    struct digest d = digest_of(build_version(), strlen(build_version()));

    d = chain_text(d, build_compiler());
    d = chain_text(d, build_flags());
    d = chain_text(d, identity_libc(libc, sizeof libc));
    dl_iterate_phdr(chain_segments, &d);
    return d;
}

/* Finds the driver, which is opened by name; see gpus.h.
 *
 * The library stays open once it was found: CUDA's runtime, which is linked statically, opens the
 * same one. */
#include "gpus.h"

#include <dlfcn.h>
#include <string.h>

/* ISO C has no cast from an object pointer to a function; POSIX promises the representation. */
static int entry(void *library, const char *name, void *to)
{
    void *p = dlsym(library, name);

    memcpy(to, &p, sizeof p);
    return p != NULL;
}

int ops_cuda_count(char reason[OPS_CUDA_REASON_BYTES])
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    struct gpus_driver driver;

    if (!library)
        return gpus_count(NULL, dlerror(), reason);
    if (!entry(library, "cuInit", &driver.init) ||
        !entry(library, "cuDriverGetVersion", &driver.version) ||
        !entry(library, "cuDeviceGetCount", &driver.count))
        return gpus_count(NULL, "libcuda.so.1 lacks cuInit", reason);
    return gpus_count(&driver, NULL, reason);
}

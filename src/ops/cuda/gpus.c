/* What the driver's answers mean; see gpus.h. Codes are the driver's; those that users meet are
 * told in words. */
#include "gpus.h"

#include <stdio.h>

enum { CUDA_NO_DEVICE = 100, CUDA_STUB_LIBRARY = 34 };

int gpus_count(const struct gpus_driver *driver, const char *missing,
               char reason[OPS_CUDA_REASON_BYTES])
{
    int n = 0, version = 0, code;

    reason[0] = '\0';
    if (!driver) {
        snprintf(reason, OPS_CUDA_REASON_BYTES, "no NVIDIA driver: %s", missing);
        return 0;
    }
    code = driver->init(0);
    if (code == CUDA_NO_DEVICE) {
        snprintf(reason, OPS_CUDA_REASON_BYTES, "the NVIDIA driver sees no GPU");
        return 0;
    }
    if (code == CUDA_STUB_LIBRARY) {
        snprintf(reason, OPS_CUDA_REASON_BYTES, "libcuda.so.1 is a stub for linking, not a driver");
        return 0;
    }
    if (code != 0) {
        snprintf(reason, OPS_CUDA_REASON_BYTES, "the NVIDIA driver does not start (cuInit: %d)",
                 code);
        return 0;
    }
    if (driver->version(&version) != 0 || version / 1000 < GPUS_CUDA_MAJOR) {
        snprintf(reason, OPS_CUDA_REASON_BYTES,
                 "the NVIDIA driver is for CUDA %d.%d; this program needs one for CUDA %d",
                 version / 1000, version % 1000 / 10, GPUS_CUDA_MAJOR);
        return 0;
    }
    code = driver->count(&n);
    if (code != 0 || n < 1) {
        snprintf(reason, OPS_CUDA_REASON_BYTES, "no GPU is visible (cuDeviceGetCount: %d, %d)",
                 code, n);
        return 0;
    }
    return n;
}

/* Profiler ranges, for the host: counted, so that every one that begins must end. */
#ifndef CUDA_SHIM_NVTX_H
#define CUDA_SHIM_NVTX_H

#ifdef __cplusplus
extern "C" {
#endif

int nvtxRangePushA(const char *message);
int nvtxRangePop(void); /* ends the process when there is none */

#ifdef __cplusplus
}
#endif

#endif

// Fibers: several stacks, one thread. A switch is a few instructions on x86-64, ucontext elsewhere.
//
// Under AddressSanitizer every switch is announced, so that it knows which stack is in use.
#ifndef CUDA_SHIM_SWITCH_H
#define CUDA_SHIM_SWITCH_H

#include <cstddef>

struct fiber;
struct fiber_main {
    void *place = nullptr;        // where the main stack goes on
    void *fake = nullptr;         // the sanitizer's
    const void *bottom = nullptr; // of the main stack, as the sanitizer knows it
    size_t n_bytes = 0;
};

// `run` never returns; it leaves.
struct fiber *fiber_create(size_t stack_bytes, void (*run)(void *), void *argument);
void fiber_enter(struct fiber *f, struct fiber_main *m); // from the main stack, until f leaves
void fiber_leave(struct fiber *f, struct fiber_main *m); // from f

#endif

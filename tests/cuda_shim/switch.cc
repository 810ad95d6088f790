// See switch.h.
#include "switch.h"

#include <cstdint>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
#include <sanitizer/common_interface_defs.h>
static void announce(void **fake, const void *bottom, size_t n_bytes)
{
    __sanitizer_start_switch_fiber(fake, bottom, n_bytes);
}
static void arrived(void *fake, const void **bottom, size_t *n_bytes)
{
    __sanitizer_finish_switch_fiber(fake, bottom, n_bytes);
}
#else
static void announce(void **, const void *, size_t)
{
}
static void arrived(void *, const void **, size_t *)
{
}
#endif

struct fiber {
    void *place, *fake;
    char *stack;
    size_t n_bytes;
    void (*run)(void *);
    void *argument;
    struct fiber_main *main;
};

static void begin(struct fiber *f)
{
    arrived(nullptr, &f->main->bottom, &f->main->n_bytes);
    f->run(f->argument);
    std::abort();
}

#if defined(__x86_64__)
// The callee-saved registers go to the old stack and come from the new one. A new stack has the
// fiber in the place of rbx, and returns into `shim_begin`, which hands it on.
asm(R"(
.text
.local shim_switch
.type shim_switch, @function
shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size shim_switch, .-shim_switch
.local shim_begin
.type shim_begin, @function
shim_begin:
    movq %rbx, %rdi
    call *%r12
    ud2
.size shim_begin, .-shim_begin
)");
extern "C" void shim_switch(void **save, void *load);
extern "C" void shim_begin(void);

static void prepare(struct fiber *f)
{
    void **top = (void **)(void *)(f->stack + f->n_bytes);

    *--top = (void *)shim_begin;
    *--top = nullptr;       // rbp
    *--top = f;             // rbx
    *--top = (void *)begin; // r12
    *--top = nullptr;
    *--top = nullptr;
    *--top = nullptr;
    f->place = top;
}

static void change(void **from, void **to)
{
    shim_switch(from, *to);
}
#else
#include <ucontext.h>

static void begin_halves(unsigned high, unsigned low)
{
    begin((struct fiber *)((uintptr_t)high << 32 | low));
}

static void prepare(struct fiber *f)
{
    ucontext_t *c = new ucontext_t;
    const uint64_t p = (uint64_t)(uintptr_t)f;

    getcontext(c);
    c->uc_stack.ss_sp = f->stack;
    c->uc_stack.ss_size = f->n_bytes;
    makecontext(c, (void (*)(void))begin_halves, 2, (unsigned)(p >> 32), (unsigned)p);
    f->place = c;
}

static void change(void **from, void **to)
{
    if (!*from)
        *from = new ucontext_t;
    swapcontext((ucontext_t *)*from, (ucontext_t *)*to);
}
#endif

struct fiber *fiber_create(size_t stack_bytes, void (*run)(void *), void *argument)
{
    struct fiber *f = new struct fiber();

    f->n_bytes = stack_bytes;
    f->stack = (char *)std::aligned_alloc(4096, stack_bytes);
    f->run = run;
    f->argument = argument;
    if (!f->stack)
        std::abort();
    prepare(f);
    return f;
}

void fiber_enter(struct fiber *f, struct fiber_main *m)
{
    f->main = m;
    announce(&m->fake, f->stack, f->n_bytes);
    change(&m->place, &f->place);
    arrived(m->fake, nullptr, nullptr);
}

void fiber_leave(struct fiber *f, struct fiber_main *m)
{
    announce(&f->fake, m->bottom, m->n_bytes);
    change(&f->place, &m->place);
    arrived(f->fake, nullptr, nullptr);
}

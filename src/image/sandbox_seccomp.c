/* The worker's system-call filter, through libseccomp.
 *
 * An allow list: what malloc, the socket and dying need. Opening files fails with EACCES instead
 * of killing, because libraries probe for tuning files and live without them. mmap and mprotect
 * may not make memory executable. abort() needs tgkill, which is limited to this process, so
 * that the parent sees SIGABRT as the cause and not SIGSYS. */
#include "sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

/* Adds rules until one fails. */
static int allow_list(scmp_filter_ctx ctx)
{
    static const int allowed[] = {
        SCMP_SYS(read),
        SCMP_SYS(write),
        SCMP_SYS(close),
        SCMP_SYS(recvmsg),
        SCMP_SYS(sendmsg),
        SCMP_SYS(recvfrom),
        SCMP_SYS(sendto),
        SCMP_SYS(brk),
        SCMP_SYS(munmap),
        SCMP_SYS(mremap),
        SCMP_SYS(madvise),
        SCMP_SYS(futex),
        SCMP_SYS(getrandom),
        SCMP_SYS(clock_gettime),
        SCMP_SYS(gettimeofday),
        SCMP_SYS(getpid),
        SCMP_SYS(gettid),
        SCMP_SYS(sched_yield),
        SCMP_SYS(rt_sigaction),
        SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(rt_sigreturn),
        SCMP_SYS(sigaltstack),
        SCMP_SYS(restart_syscall),
        SCMP_SYS(exit),
        SCMP_SYS(exit_group),
    };
    static const int fails[] = {SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(readlink),
                                SCMP_SYS(readlinkat)};

    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++) {
        if (seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0) != 0)
            return 0;
    }
    for (size_t i = 0; i < sizeof fails / sizeof fails[0]; i++) {
        if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EACCES), fails[i], 0) != 0)
            return 0;
    }
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0 &&
           seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)) == 0 &&
           seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0)) == 0;
}

int sandbox_enter(void)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int entered;

    if (!ctx)
        return 0;
    entered = allow_list(ctx) && seccomp_load(ctx) == 0;
    seccomp_release(ctx);
    return entered;
}

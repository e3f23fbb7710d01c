/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/fault.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/log.h"

enum { STACK_BYTES = 64 * 1024, SCAN_WORDS = 512, CALLERS = 8 };

static const struct {
    int number;
    const char *name;
} signals[] = {{SIGSEGV, "SIGSEGV"},
               {SIGBUS, "SIGBUS"},
               {SIGILL, "SIGILL"},
               {SIGFPE, "SIGFPE"},
               {SIGABRT, "SIGABRT"}};

static const char *executable, *version;
extern const char __executable_start[], etext[]; /* ld(1) */

static uintptr_t base(void)
{
    return (uintptr_t)__executable_start;
}

static void registers(const ucontext_t *u, uintptr_t *pc, uintptr_t *sp)
{
#if defined(__x86_64__)
    *pc = (uintptr_t)u->uc_mcontext.gregs[REG_RIP];
    *sp = (uintptr_t)u->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    *pc = (uintptr_t)u->uc_mcontext.pc;
    *sp = (uintptr_t)u->uc_mcontext.sp;
#else
    (void)u;
    *pc = *sp = 0;
#endif
}

/* Is there a call in front of this address of ours? */
static bool returns_here(uintptr_t at)
{
    const unsigned char *p = (const unsigned char *)at;

    if (at < base() + 16 || at >= (uintptr_t)etext)
        return false;
#if defined(__x86_64__)
    /* call rel32; call [rip+disp32], call [reg+disp32]; call [reg+disp8]; call reg (Intel SDM,
     * CALL) */
    return p[-5] == 0xe8 || (p[-6] == 0xff && (p[-5] & 0x38) == 0x10) ||
           (p[-3] == 0xff && (p[-2] & 0xf8) == 0x50) || (p[-2] == 0xff && (p[-1] & 0xf8) == 0xd0);
#elif defined(__aarch64__)
    uint32_t insn;
    memcpy(&insn, p - 4, sizeof insn);
    return (insn & 0xfc000000) == 0x94000000 || (insn & 0xfffffc1f) == 0xd63f0000; /* bl, blr */
#else
    return p == NULL;
#endif
}

static void callers_text(uintptr_t sp, char *ret, size_t cap)
{
    uintptr_t words[SCAN_WORDS];
    size_t n = 0, at = 0;
    ssize_t got = -1;

    /* By system call: what is not there is an error and no second crash. */
    for (size_t len = sizeof words; got < 0 && len >= 64; len /= 2)
        got = process_vm_readv(getpid(), &(struct iovec){words, len}, 1,
                               &(struct iovec){(void *)sp, len}, 1, 0);
    ret[0] = '\0';
    for (ssize_t i = 0; i < got / (ssize_t)sizeof *words && n < CALLERS; i++)
        if (returns_here(words[i])) {
            at += (size_t)snprintf(ret + at, cap - at, "%s0x%lx", n ? "," : "", words[i] - base());
            n++;
        }
}

/* "file+0xoffset". */
static void place_text(uintptr_t pc, char *ret, size_t cap)
{
    const char *file = executable;
    uintptr_t start = base();

#ifdef DLFO_STRUCT_HAS_EH_DBASE /* glibc 2.35: may be called here */
    struct dl_find_object found;
    if (_dl_find_object((void *)pc, &found) == 0) {
        const char *name = found.dlfo_link_map->l_name;
        start = (uintptr_t)found.dlfo_map_start;
        if (name && *name)
            file = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    }
#endif
    if (pc < start)
        snprintf(ret, cap, "0x%lx", pc); /* a jump to nowhere */
    else
        snprintf(ret, cap, "%s+0x%lx", file, pc - start);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    char place[96], callers[CALLERS * 24], address[24], thread[17] = "";
    const char *name = "?";
    uintptr_t pc, sp;

    for (size_t i = 0; i < N_OF(signals); i++)
        if (signals[i].number == number)
            name = signals[i].name;
    registers(context, &pc, &sp);
    place_text(pc, place, sizeof place);
    callers_text(sp, callers, sizeof callers);
    prctl(PR_GET_NAME, thread);
    if (info->si_code > 0) {
        snprintf(address, sizeof address, "0x%lx", (uintptr_t)info->si_addr);
        LOG(ERROR, "Crashed", "signal=%s address=%s at=%s callers=%s thread=%s version=%s", name,
            address, place, callers, thread, version);
    } else {
        LOG(ERROR, "Crashed", "signal=%s from_pid=%d at=%s callers=%s thread=%s version=%s", name,
            (int)info->si_pid, place, callers, thread, version);
    }
    raise(number); /* blocked until the handler returns; its action is the default one again */
}

void fault_thread(void)
{
    void *p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p != MAP_FAILED)
        sigaltstack(&(stack_t){.ss_sp = p, .ss_size = STACK_BYTES}, NULL);
}

void fault_install(const char *name, const char *program_version)
{
    struct sigaction mine = {.sa_sigaction = on_fault,
                             .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};

    executable = name;
    version = program_version;
    sigemptyset(&mine.sa_mask);
    for (size_t i = 0; i < N_OF(signals); i++) {
        struct sigaction old;

        if (sigaction(signals[i].number, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
            sigaction(signals[i].number, &mine, NULL);
    }
    fault_thread();
}

void fault_no_core(void)
{
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
#ifdef __has_feature
#if __has_feature(address_sanitizer)
    return;
#endif
#endif
    prctl(PR_SET_DUMPABLE, 0); /* a core that goes to a pipe does not ask for the limit */
}

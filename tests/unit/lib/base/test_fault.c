/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "tests/unit/tcase.h"

extern const char __executable_start[];

static volatile int sink;

__attribute__((noinline)) static void null_write(volatile int *p)
{
    *p = 1;
    sink++;
}

__attribute__((noinline)) static void calls_null_write(void)
{
    null_write((volatile int *)(uintptr_t)0x10);
    sink++; /* no tail call */
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
__attribute__((noinline)) static int deeper(int n)
{
    volatile char page[4096];

    page[0] = (char)n;
    return deeper(n + 1) + page[0];
}
#pragma GCC diagnostic pop

static void *overflow(void *arg)
{
    (void)arg;
    fault_thread();
    sink = deeper(0);
    return NULL;
}

static void overflow_in_a_thread(void)
{
    pthread_t t;

    pthread_create(&t, NULL, overflow, NULL);
    pthread_join(t, NULL);
}

static void jump_to_nowhere(void)
{
    void (*volatile f)(void) = (void (*)(void))(uintptr_t)0x20;

    f();
    sink++;
}

static void aborts(void)
{
    abort();
}

/* The line that a process leaves which dies in `crash`. */
static int line_of(void (*crash)(void), char *ret, size_t cap)
{
    int pair[2], status = 0;
    size_t n = 0;
    pid_t pid;

    ck_assert_int_eq(pipe(pair), 0);
    pid = fork();
    if (pid == 0) {
        struct rlimit all;

        getrlimit(RLIMIT_CORE, &all);
        all.rlim_cur = all.rlim_max;
        setrlimit(RLIMIT_CORE, &all);
        log_init("test", false);
        log_set_fd(pair[1]);
        fault_install("test_fault", "1.2.3");
        fault_no_core();
        crash();
        _exit(0);
    }
    close(pair[1]);
    for (ssize_t got; (got = read(pair[0], ret + n, cap - 1 - n)) > 0;)
        n += (size_t)got;
    ret[n] = '\0';
    close(pair[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static uintptr_t offset_of(const void *f)
{
    return (uintptr_t)f - (uintptr_t)__executable_start;
}

static uintptr_t number_behind(const char *line, const char *what)
{
    const char *p = strstr(line, what);

    ck_assert_msg(p != NULL, "no %s in: %s", what, line);
    return strtoul(p + strlen(what), NULL, 16);
}

static const struct {
    void (*crash)(void);
    int signo;
    const char *has[3];
} crashes[] = {
    {calls_null_write, SIGSEGV, {"signal=SIGSEGV", "address=0x10 ", "at=test_fault+0x"}},
    {overflow_in_a_thread, SIGSEGV, {"signal=SIGSEGV", "at=test_fault+0x", NULL}},
    {jump_to_nowhere, SIGSEGV, {"signal=SIGSEGV", "address=0x20 ", "at=0x20 "}},
    {aborts, SIGABRT, {"signal=SIGABRT", "from_pid=", "at=libc.so.6+0x"}},
};

/* A sanitizer's handler stays: what it says is its own. */
static bool handled_already(int signo)
{
    struct sigaction old;

    return sigaction(signo, NULL, &old) == 0 && old.sa_handler != SIG_DFL;
}

START_TEST(one_line_says_where)
{
    char line[4096];
    int status;

    if (handled_already(crashes[_i].signo))
        return;
    status = line_of(crashes[_i].crash, line, sizeof line);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), crashes[_i].signo);
    ck_assert(!WCOREDUMP(status));
    ck_assert_ptr_nonnull(strstr(line, "msg=Crashed"));
    ck_assert_ptr_nonnull(strstr(line, "version=1.2.3"));
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
    for (int i = 0; i < 3 && crashes[_i].has[i]; i++)
        ck_assert_msg(strstr(line, crashes[_i].has[i]) != NULL, "no %s in: %s", crashes[_i].has[i], line);
    if (_i == 0) {
        uintptr_t at = number_behind(line, "at=test_fault+"), caller = number_behind(line, "callers=");

        ck_assert_uint_ge(at, offset_of((void *)null_write));
        ck_assert_uint_lt(at, offset_of((void *)null_write) + 64);
        ck_assert_uint_gt(caller, offset_of((void *)calls_null_write));
        ck_assert_uint_lt(caller, offset_of((void *)calls_null_write) + 64);
    }
}
END_TEST

TESTS(fault)
{
    tcase_add_loop_test(tc, one_line_says_where, 0, N_OF(crashes));
}

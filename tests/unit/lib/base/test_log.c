/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/tcase.h"

static int fds[2];
static const char *volatile nothing; /* volatile: the compiler would see the NULL */
static struct clock wall;

static void open_pipe(bool json)
{
    ck_assert_int_eq(pipe(fds), 0);
    clock_init_virtual(&wall, INT64_C(1785579630123) * NS_PER_MS);
    log_init("tulle-test", json);
    log_set_fd(fds[1]);
    log_set_clock(&wall);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
}

static const char *read_line(void)
{
    static char text[1 << 17];
    ssize_t n = read(fds[0], text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

#define HEAD "time=2026-08-01T10:20:30.123Z level=info program=tulle-test msg="
#define JHEAD                                                                                      \
    "{\"time\":\"2026-08-01T10:20:30.123Z\",\"level\":\"info\",\"program\":\"tulle-test\","        \
    "\"msg\":"

START_TEST(text_form)
{
    open_pipe(false);
    LOG(INFO, "Listener opened", "port=%d proto=%s", 15001, "tcp");
    ck_assert_str_eq(read_line(), HEAD "\"Listener opened\" port=15001 proto=tcp\n");
    LOG(INFO, "Ready", "");
    ck_assert_str_eq(read_line(), HEAD "Ready\n");
    LOG(INFO, "x", "a=%s b=%.*s c=%s d=%s", "one two", 3, "abcdef", "", "x\"y\n=\x1b");
    ck_assert_str_eq(read_line(), HEAD "x a=\"one two\" b=abc c=\"\" d=\"x\\\"y\\n=\\x1b\"\n");
    LOG(INFO, "x", "a=%s", nothing);
    ck_assert_str_eq(read_line(), HEAD "x a=(null)\n");
    LOG(INFO, "x", "addr=%s:%d took=%dms pct=%d%% loose", "::1", 80, 5, 7);
    ck_assert_str_eq(read_line(), HEAD "x addr=::1:80 took=5ms pct=7% detail=loose\n");
    LOG(DEBUG, "below the threshold", "");
    ck_assert_str_eq(read_line(), "");
}
END_TEST

START_TEST(every_conversion)
{
    open_pipe(false);
    LOG(INFO, "x", "a=%d b=%i c=%u d=%x e=%ld f=%lld g=%lu h=%llu i=%zu j=%zd", -1, 2, 3u, 255, -4L,
        -5LL, 6UL, 7ULL, (size_t)8, (ssize_t)-9);
    ck_assert_str_eq(read_line(), HEAD "x a=-1 b=2 c=3 d=ff e=-4 f=-5 g=6 h=7 i=8 j=-9\n");
    LOG(INFO, "x", "a=%c b=%.2f c=%" PRIu64 " d=%" PRId64 " e=%04d f=%#x g=%hhu h=%hd i=%ju k=%.*f",
        'q', 1.5, UINT64_MAX, INT64_MIN, 7, 16, (unsigned char)200, (short)-3, (uintmax_t)9, 1,
        2.25);
    ck_assert_str_eq(read_line(),
                     HEAD "x a=q b=1.50 c=18446744073709551615 d=-9223372036854775808 e=0007 "
                          "f=0x10 g=200 h=-3 i=9 k=2.2\n");
    LOG(INFO, "x", "a=%*d b=%s", 4, 7, "after");
    ck_assert_str_eq(read_line(), HEAD "x a=\"   7\" b=after\n");
}
END_TEST

START_TEST(json_values)
{
    char want[512];

    open_pipe(true);
    LOG(INFO, "Listener opened", "port=%d proto=%s ratio=%.1f id=%x pad=%04d", 15001, "t\ncp", 0.5,
        10, 7);
    snprintf(want, sizeof want, "%s",
             JHEAD "\"Listener opened\",\"port\":15001,\"proto\":\"t\\ncp\","
                   "\"ratio\":0.5,\"id\":\"a\",\"pad\":\"0007\"}\n");
    ck_assert_str_eq(read_line(), want);
    LOG(INFO, "x", "big=%f n=%d", 1.0 / 0.0, 1);
    ck_assert_str_eq(read_line(), JHEAD "\"x\",\"big\":\"inf\",\"n\":1}\n");
}
END_TEST

/* A huge value is cut, the line stays one line and its JSON whole. */
START_TEST(long_values)
{
    static char big[20000];

    for (int json = 0; json < 2; json++) {
        const char *line;
        size_t n;

        open_pipe(json);
        for (size_t len = 3000; len < 4200; len += 7) {
            memset(big, '\n', len);
            big[len] = '\0';
            LOG(INFO, "x", "a=%.*s b=%s c=%d", (int)(len / 2 - 1000), "y", big, 5);
            line = read_line();
            n = strlen(line);
            ck_assert_uint_gt(n, 100);
            ck_assert_uint_le(n, 4096);
            ck_assert(strchr(line, '\n') == line + n - 1);
            if (json)
                ck_assert(strcmp(line + n - 3, "\"}\n") == 0 || strcmp(line + n - 3, "5}\n") == 0);
        }
        close(fds[0]);
        close(fds[1]);
    }
}
END_TEST

/* A pipe that nobody reads: nothing waits, the loss is counted and told of later. */
START_TEST(blocked_pipe)
{
    uint64_t before = log_dropped();
    char *told;

    open_pipe(false);
    for (int i = 0; i < 5000; i++)
        LOG(INFO, "Filling the pipe", "i=%d text=%s", i,
            "0123456789012345678901234567890123456789");
    ck_assert_uint_gt(log_dropped(), before + 1000);
    while (*read_line())
        ;
    LOG(INFO, "flows", "");
    told = strstr(read_line(), "\"Log lines were dropped\" count=");
    ck_assert_ptr_nonnull(told);
    ck_assert_uint_eq(strtoull(strstr(told, "count=") + 6, NULL, 10), log_dropped() - before);
}
END_TEST

START_TEST(blocked_socket)
{
    uint64_t before = log_dropped();

    open_pipe(false);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    log_set_fd(fds[1]);
    for (int i = 0; i < 5000; i++)
        LOG(INFO, "Filling", "i=%d", i);
    ck_assert_uint_gt(log_dropped(), before);
    close(fds[0]);
    LOG(INFO, "no reader", ""); /* and no SIGPIPE */
}
END_TEST

START_TEST(levels)
{
    enum log_level l;

    ck_assert(log_level_parse("WARNING", &l) == 0 && l == LOG_WARN);
    ck_assert(log_level_parse("trace", &l) == 0 && l == LOG_TRACE);
    ck_assert_int_eq(log_level_parse("loud", &l), -1);
    ck_assert_str_eq(log_level_name(LOG_ERROR), "error");
}
END_TEST

TESTS(log)
{
    tcase_add_test(tc, text_form);
    tcase_add_test(tc, every_conversion);
    tcase_add_test(tc, json_values);
    tcase_add_test(tc, long_values);
    tcase_add_test(tc, blocked_pipe);
    tcase_add_test(tc, blocked_socket);
    tcase_add_test(tc, levels);
}

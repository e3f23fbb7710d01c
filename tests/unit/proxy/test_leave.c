/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "proxy/leave.h"

#define COLUMNS                                                                                    \
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "  \
    "inode\n"
#define LINE(state, uid, inode)                                                                    \
    "   0: 0100007F:3A98 00000000:0000 " state " 00000000:00000000 00:00000000 00000000 " uid      \
    "        0 " inode " 1 0000000000000000 100 0 0 10 0\n"
#define OURS LINE("0A", " 1337", "41001")

/* clang-format off */
static const struct { const char *name, *table; bool want; } tables[] = {
    {"nothing",               "",                                              false},
    {"no socket",             COLUMNS,                                         false},
    {"our own",               COLUMNS OURS OURS,                               false},
    {"a listening one",       COLUMNS OURS LINE("0A", " 1000", "41002"),       true},
    {"an established one",    COLUMNS OURS LINE("01", " 1000", "41002") OURS,  true},
    {"root's",                COLUMNS LINE("01", "    0", "41002"),            true},
    {"TIME_WAIT is nobody's", COLUMNS LINE("06", "    0", "0"),                false},
    {"orphan in FIN_WAIT",    COLUMNS LINE("04", " 1000", "0"),                false},
    {"not accepted yet",      COLUMNS LINE("01", "    0", "0"),                false},
    {"a large user id",       COLUMNS LINE("01", "4294967294", "41002"),       true},
    {"a large inode",         COLUMNS LINE("01", " 1000", "18446744073709551615"), true},
    {"cut line",              COLUMNS "   0: 0100007F:3A98 00000000:0000 0A",  false},
    {"words for numbers",     COLUMNS LINE("01", "  abc", "41002"),            false},
    {"IPv6 is wider",         COLUMNS "   0: 00000000000000000000000001000000:1F90 "
                              "00000000000000000000000000000000:0000 0A 00000000:00000000 "
                              "00:00000000 00000000  1000        0 41003 1 0 100 0 0 10 0\n",      true},
    {"an UDP one",            COLUMNS "  12: 0100007F:0035 00000000:0000 07 00000000:00000000 "
                              "00:00000000 00000000  1000        0 41003 2 0 0\n",                 true},
};
/* clang-format on */

START_TEST(table)
{
    ck_assert_msg(app_socket_in(slice_str(tables[_i].table), 1337) == tables[_i].want, "%s",
                  tables[_i].name);
}
END_TEST

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0 && fclose(f) == 0);
}

START_TEST(all_four_tables)
{
    char dir[] = "/tmp/tulle-leave-XXXXXX", cmd[64];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(app_life(dir, 1337), APP_UNKNOWN); /* nobody tells */
    write_file(dir, "tcp", COLUMNS OURS);
    ck_assert_int_eq(app_life(dir, 1337), APP_GONE); /* a kernel without IPv6 */
    write_file(dir, "tcp6", COLUMNS);
    write_file(dir, "udp6", COLUMNS LINE("07", " 1000", "9"));
    ck_assert_int_eq(app_life(dir, 1337), APP_RUNS);
    write_file(dir, "udp6", COLUMNS);
    ck_assert_int_eq(app_life(dir, 1337), APP_GONE);
    ck_assert_int_eq(app_life(dir, 1000), APP_RUNS);
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    ck_assert_int_eq(system(cmd), 0);
}
END_TEST

/* Each step: when, what is seen, what to do. Answers are waited for until 5 s, the kill comes at 29
 * s, classic pods settle for 1 s. */
/* clang-format off */
static const struct { const char *name; bool native; struct { double s; enum app_life app; unsigned in, out; enum leave_act want; } steps[8]; int n; } leaves[] = {
    {"without a pod, nothing left", false, {{0, APP_UNKNOWN, 0, 3, LEAVE_END}}, 1},
    {"without a pod, answers end",  false, {{0, APP_UNKNOWN, 1, 0, LEAVE_WAIT}, {3, APP_UNKNOWN, 0, 1, LEAVE_END}}, 2},
    {"without a pod, time is up",   false, {{4.9, APP_UNKNOWN, 1, 0, LEAVE_WAIT}, {5, APP_UNKNOWN, 1, 0, LEAVE_END}}, 2},
    {"the application goes on",     false, {{0, APP_RUNS, 0, 0, LEAVE_WAIT}, {28.9, APP_RUNS, 0, 0, LEAVE_WAIT}, {29, APP_RUNS, 0, 1, LEAVE_END}}, 3},
    {"native: gone already",        true,  {{0, APP_GONE, 0, 0, LEAVE_CLOSE_IDLE}, {0.1, APP_GONE, 0, 0, LEAVE_END}}, 2},
    {"classic: gone for a second",  false, {{0, APP_GONE, 0, 0, LEAVE_WAIT}, {0.9, APP_GONE, 0, 0, LEAVE_WAIT}, {1, APP_GONE, 0, 0, LEAVE_CLOSE_IDLE}, {1.1, APP_GONE, 0, 0, LEAVE_END}}, 4},
    {"between two connections",     false, {{1, APP_GONE, 0, 0, LEAVE_WAIT}, {1.9, APP_RUNS, 0, 0, LEAVE_WAIT}, {2.1, APP_GONE, 0, 0, LEAVE_WAIT}, {3.0, APP_GONE, 0, 0, LEAVE_WAIT}, {3.1, APP_GONE, 0, 0, LEAVE_CLOSE_IDLE}}, 5},
    {"what it sent last",           true,  {{10, APP_GONE, 0, 1, LEAVE_CLOSE_IDLE}, {10.9, APP_GONE, 0, 1, LEAVE_WAIT}, {11, APP_GONE, 0, 1, LEAVE_END}}, 3},
    {"a slow client's answer",      true,  {{1, APP_GONE, 1, 0, LEAVE_CLOSE_IDLE}, {4.9, APP_GONE, 1, 0, LEAVE_WAIT}, {5, APP_GONE, 1, 0, LEAVE_END}}, 3},
    {"idle ones are closed once",   true,  {{1, APP_GONE, 1, 0, LEAVE_CLOSE_IDLE}, {1.1, APP_GONE, 1, 0, LEAVE_WAIT}, {1.2, APP_GONE, 0, 0, LEAVE_END}}, 3},
};
/* clang-format on */

START_TEST(steps)
{
    struct leave l = {.drained_ns = 5 * NS_PER_S,
                      .kill_ns = 29 * NS_PER_S,
                      .settle_ns = leaves[_i].native ? 0 : NS_PER_S};
    for (int i = 0; i < leaves[_i].n; i++) {
        struct leave_view v = {.now_ns = (int64_t)(leaves[_i].steps[i].s * 1000) * NS_PER_MS,
                               .app = leaves[_i].steps[i].app,
                               .inbound = leaves[_i].steps[i].in,
                               .outbound = leaves[_i].steps[i].out};
        ck_assert_msg(leave_step(&l, &v) == leaves[_i].steps[i].want, "%s, step %d",
                      leaves[_i].name, i);
    }
}
END_TEST

START_TEST(drain_time)
{
    static const struct {
        const char *config;
        double s;
    } list[] = {
        {NULL, 5},
        {"{}", 5},
        {"{\"terminationDrainDuration\":\"20s\"}", 20},
        {"{\"terminationDrainDuration\":\"1m30s\"}", 90},
        {"{\"terminationDrainDuration\":7}", 5},
        {"{\"terminationDrainDuration\":\"0s\"}", 0},
        {"{\"terminationDrainDuration\":\"-1s\"}", 5},
        {"not JSON", 5},
    };
    for (size_t i = 0; i < N_OF(list); i++)
        ck_assert_int_eq(leave_drain_ns(list[i].config), (int64_t)(list[i].s * 1000) * NS_PER_MS);
    ck_assert_int_eq(leave_config_ns("{\"drainDuration\":\"3s\"}", "drainDuration", -1), 3 * NS_PER_S);
    ck_assert_int_eq(leave_config_ns(list[2].config, "drainDuration", -1), -1);
}
END_TEST

TESTS(leave)
{
    tcase_add_loop_test(tc, table, 0, N_OF(tables));
    tcase_add_test(tc, all_four_tables);
    tcase_add_test(tc, drain_time);
    tcase_add_loop_test(tc, steps, 0, N_OF(leaves));
}

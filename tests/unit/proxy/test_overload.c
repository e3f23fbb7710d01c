/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/overload.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "tests/unit/tcase.h"

static char dir[] = "/tmp/tulle-overload-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/tulle-overload-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
    static const char *const names[] = {"memory.max", "memory.current", "memory.stat"};
    char path[128];
    for (size_t i = 0; i < N_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* One after the other, each a look later. */
static const struct {
    const char *current, *stat;
    bool over;
} steps[] = {
    {"10000000\n", "anon 9000000\ninactive_file 0\n", false},
    {"59000000\n", "anon 1\ninactive_file 0\n", false},
    {"60300000\n", "anon 1\ninactive_file 0\n", false},
    {"60400000\n", "anon 1\ninactive_file 0\n", true},
    {"58000000\n", "anon 1\ninactive_file 0\n", true}, /* not calm yet */
    {"57000000\n", "anon 1\ninactive_file 0\n", false},
    {"67000000\n", "anon 1\ninactive_file 30000000\nactive_file 1\n", false},
    {"67000000\n", "", true},
    {"", "", false},
    {"67000000\n", "inactive_file nonsense\n", true},
    {"junk\n", "inactive_file 0\n", false},
};

START_TEST(limit)
{
    struct overload o;
    int64_t now = 5 * NS_PER_S;
    put("memory.max", "67108864\n");
    overload_init(&o, dir);
    for (size_t i = 0; i < N_OF(steps); i++, now += OVERLOAD_LOOK_MS * NS_PER_MS) {
        put("memory.current", steps[i].current);
        put("memory.stat", steps[i].stat);
        ck_assert_msg(overload_now(&o, now) == steps[i].over, "step %zu", i);
    }
}
END_TEST

START_TEST(seldom)
{
    struct overload o;
    put("memory.max", "67108864\n");
    put("memory.current", "1000\n");
    overload_init(&o, dir);
    ck_assert(!overload_now(&o, 0));
    put("memory.current", "67000000\n");
    ck_assert(!overload_now(&o, OVERLOAD_LOOK_MS * NS_PER_MS - 1));
    ck_assert(overload_now(&o, OVERLOAD_LOOK_MS * NS_PER_MS));
}
END_TEST

START_TEST(none)
{
    static const char *const max[] = {"max\n", "", "0\n"};
    for (size_t i = 0; i < N_OF(max); i++) {
        struct overload o;
        put("memory.max", max[i]);
        put("memory.current", "67000000000\n");
        overload_init(&o, dir);
        ck_assert(!overload_now(&o, 0));
    }
    struct overload o;
    overload_init(&o, "/nonexistent");
    ck_assert(!overload_now(&o, 0));
}
END_TEST

TESTS(overload)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, limit);
    tcase_add_test(tc, seldom);
    tcase_add_test(tc, none);
}

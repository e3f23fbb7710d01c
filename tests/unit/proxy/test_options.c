/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/options.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/tcase.h"

static const struct {
    const char *name, *args; /* separated by blanks */
    const char *problem;     /* a part of the sentence; NULL: accepted */
} cases[] = {
    {"nothing", "", NULL},
    {"everything", "--config f --cert c --key k --roots r --namespace n --concurrency 4 --seed 9 "
                   "--virtual-clock --log-level debug --log-as-json "
                   "--outbound 127.0.0.1:18001=10.96.0.10:80 --inbound [::1]:18006=[::1]:80 "
                   "--admin 127.0.0.1:15000 --status 127.0.0.1:15020 --health 127.0.0.1:15021 "
                   "--metrics 127.0.0.1:15090", NULL},
    {"no workers", "--concurrency 0", "--concurrency 0: must be 1..64"},
    {"too many workers", "--concurrency 65", "must be 1..64"},
    {"no number", "--concurrency x", "must be 1..64"},
    {"seed of nothing", "--seed 0", "--seed 0: must be 1.."},
    {"destination missing", "--outbound 127.0.0.1:1", "must be ADDRESS:PORT=ADDRESS:PORT"},
    {"destination too much", "--admin 127.0.0.1:1=127.0.0.1:2", "must be ADDRESS:PORT"},
    {"no address", "--outbound localhost:1=10.0.0.1:1", "not an address and port"},
    {"port missing", "--outbound 127.0.0.1=10.0.0.1:1", "not an address and port"},
    {"half an identity", "--config f --cert c", "go together"},
    {"identity without a file", "--cert c --key k --roots r", "go together"},
    {"stranger", "--wat", "unknown or incomplete option --wat"},
    {"value missing", "--config", "unknown or incomplete option --config"},
    {"loose word", "word", "unexpected argument word"},
};

static int split(char *text, char **argv)
{
    int n = 0;
    argv[n++] = (char *)(uintptr_t)"run";
    for (char *save, *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[n++] = w;
    argv[n] = NULL;
    return n;
}

START_TEST(arguments)
{
    char text[600], *argv[64];
    struct proxy_options o;
    struct err err = {0};
    snprintf(text, sizeof text, "%s", cases[_i].args);
    int rc = proxy_options_parse(split(text, argv), argv, &o, &err);
    ck_assert_msg((rc == 0) == (cases[_i].problem == NULL), "%s: %s", cases[_i].name, err.msg);
    if (cases[_i].problem)
        ck_assert_msg(strstr(err.msg, cases[_i].problem) != NULL, "%s: %s", cases[_i].name, err.msg);
}
END_TEST

START_TEST(listeners)
{
    char text[] = "--outbound 127.0.0.1:18001=10.96.0.10:80 --admin [::1]:15000", *argv[8];
    struct proxy_options o;
    struct err err = {0};
    char at[SOCK_TEXT_MAX];
    ck_assert_int_eq(proxy_options_parse(split(text, argv), argv, &o, &err), 0);
    ck_assert_uint_eq(o.n_listen, 2);
    ck_assert_str_eq(o.listen[0].name, "outbound");
    ck_assert(o.listen[0].per_worker);
    ck_assert_str_eq(sock_addr_text(&o.listen[0].fixed, at), "10.96.0.10:80");
    ck_assert(!o.listen[1].per_worker && !sock_addr_set(&o.listen[1].fixed));
    ck_assert_str_eq(sock_addr_text(&o.listen[1].at, at), "[::1]:15000");
    ck_assert_uint_eq(o.concurrency, 1);
}
END_TEST

START_TEST(one_listener_too_many)
{
    char *argv[2 * PROXY_LISTEN_MAX + 4];
    struct proxy_options o;
    struct err err = {0};
    int n = 0;
    argv[n++] = (char *)(uintptr_t)"run";
    for (int i = 0; i <= PROXY_LISTEN_MAX; i++) {
        argv[n++] = (char *)(uintptr_t)"--admin";
        argv[n++] = (char *)(uintptr_t)"127.0.0.1:1";
    }
    argv[n] = NULL;
    ck_assert_int_eq(proxy_options_parse(n, argv, &o, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

TESTS(options)
{
    tcase_add_loop_test(tc, arguments, 0, N_OF(cases));
    tcase_add_test(tc, listeners);
    tcase_add_test(tc, one_listener_too_many);
}

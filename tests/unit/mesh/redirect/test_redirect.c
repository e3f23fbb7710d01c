/* SPDX-License-Identifier: Apache-2.0 */
/* Golden rulesets (tests/golden/redirect/<case>/args -> want.nft; GOLDEN_WRITE=1 rewrites), each
 * also loaded twice into a kernel where that is possible, and the refusals of the flags' parser. */
#include <dirent.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mesh/redirect/redirect.h"
#include "tests/unit/tcase.h"

#define GOLDEN "tests/golden/redirect"

struct args {
    int argc;
    char *argv[64];
    char text[4096];
};

static bool file_read(const char *path, char *text, size_t cap)
{
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    size_t n = fread(text, 1, cap - 1, f);
    text[n] = '\0';
    fclose(f);
    return true;
}

static void args_split(struct args *a)
{
    char *save;
    for (char *t = strtok_r(a->text, " \n", &save); t; t = strtok_r(NULL, " \n", &save)) {
        ck_assert_uint_lt(a->argc, N_OF(a->argv));
        a->argv[a->argc++] = t;
    }
}

static void render_case(const char *name, struct buf *out)
{
    struct args a = {0};
    char path[512];
    struct redirect_settings s;
    struct err err = {0};

    snprintf(path, sizeof path, GOLDEN "/%s/args", name);
    ck_assert_msg(file_read(path, a.text, sizeof a.text), "%s", path);
    args_split(&a);
    ck_assert_msg(redirect_parse_args(a.argc, a.argv, &s, &err) == 0, "%s: %s", name, err.msg);
    ck_assert_msg(redirect_render(&s, out, &err) == 0, "%s: %s", name, err.msg);
}

static int cases(struct dirent ***ret)
{
    int n = scandir(GOLDEN, ret, NULL, alphasort);
    ck_assert_int_gt(n, 2);
    return n;
}

START_TEST(golden)
{
    struct dirent **list;
    int n = cases(&list), seen = 0;
    for (int i = 0; i < n; i++) {
        char path[512], want[16384] = "";
        struct buf out;
        if (list[i]->d_name[0] == '.') {
            free(list[i]);
            continue;
        }
        buf_init(&out, 65536);
        render_case(list[i]->d_name, &out);
        snprintf(path, sizeof path, GOLDEN "/%s/want.nft", list[i]->d_name);
        if (getenv("GOLDEN_WRITE")) {
            FILE *f = fopen(path, "w");
            ck_assert_ptr_nonnull(f);
            fputs(buf_cstr(&out), f);
            fclose(f);
        }
        ck_assert_msg(file_read(path, want, sizeof want), "%s", path);
        ck_assert_msg(strcmp(buf_cstr(&out), want) == 0, "%s differs:\n%s", path, buf_cstr(&out));
        buf_fini(&out);
        free(list[i]);
        seen++;
    }
    free(list);
    ck_assert_int_ge(seen, 10);
}
END_TEST

/* The kernel's opinion: every ruleset loads, and loads again over itself, with the same result. */
START_TEST(kernel_takes_it)
{
    struct dirent **list;
    if (geteuid() != 0 || system("command -v nft >/dev/null && unshare -n true 2>/dev/null") != 0) {
        fprintf(stderr, "SKIPPED kernel_takes_it: needs root, nft and network namespaces\n");
        return;
    }
    int n = cases(&list);
    for (int i = 0; i < n; i++) {
        char cmd[1200];
        if (list[i]->d_name[0] != '.') {
            snprintf(cmd, sizeof cmd,
                     "unshare -n sh -ec 'f=" GOLDEN
                     "/%s/want.nft; nft -f $f; a=$(nft list ruleset);"
                     " nft -f $f; test \"$a\" = \"$(nft list ruleset)\"; test -n \"$a\"'",
                     list[i]->d_name);
            int rc = system(cmd);
            ck_assert_msg(rc == 0, "%s: nft says %d", list[i]->d_name, rc);
        }
        free(list[i]);
    }
    free(list);
}
END_TEST

/* clang-format off */
static const struct { const char *name, *args, *want; } refused[] = {
    {"unknown flag",      "--inbound-prots 80",                      "unknown flag '--inbound-prots'"},
    {"not a flag",        "80",                                      "unknown flag '80'"},
    {"no value",          "--uid",                                   "--uid needs a value"},
    {"switch with value", "--dns=true",                              "--dns takes no value"},
    {"port zero",         "--inbound-ports 0",                       "--inbound-ports: '0'"},
    {"port too high",     "--inbound-ports 80,65536",                "--inbound-ports: '65536'"},
    {"port name",         "--exclude-inbound-ports http",            "--exclude-inbound-ports: 'http'"},
    {"empty item",        "--exclude-inbound-ports 80,,81",          "--exclude-inbound-ports: ''"},
    {"no wildcard here",  "--exclude-inbound-ports *",               "--exclude-inbound-ports: '*'"},
    {"bare address",      "--include-outbound-cidrs 10.0.0.1",       "--include-outbound-cidrs: '10.0.0.1'"},
    {"prefix too long",   "--include-outbound-cidrs 10.0.0.0/33",    "--include-outbound-cidrs: '10.0.0.0/33'"},
    {"v6 prefix",         "--exclude-outbound-cidrs fd00::/129",     "--exclude-outbound-cidrs: 'fd00::/129'"},
    {"root's traffic",    "--uid 0",                                 "--uid: '0'"},
    {"rule injection",    "--exclude-interfaces eth0\"accept",       "--exclude-interfaces:"},
    {"long interface",    "--exclude-interfaces abcdefghijklmnop",   "--exclude-interfaces:"},
};
/* clang-format on */

START_TEST(refusals)
{
    struct args a = {0};
    struct redirect_settings s;
    struct err err = {0};
    snprintf(a.text, sizeof a.text, "%s", refused[_i].args);
    args_split(&a);
    ck_assert_msg(redirect_parse_args(a.argc, a.argv, &s, &err) == -1, "%s", refused[_i].name);
    ck_assert_int_eq(err.code, ERR_INVALID);
    ck_assert_msg(strstr(err.msg, refused[_i].want), "%s: %s", refused[_i].name, err.msg);
}
END_TEST

START_TEST(limits)
{
    struct buf text;
    struct err err = {0};
    struct redirect_ports ports;
    struct redirect_ranges ranges;

    buf_init(&text, 1 << 20);
    for (int i = 1; i <= REDIRECT_MAX_PORTS; i++)
        buf_addf(&text, "%s%d,%d", i > 1 ? "," : "", i, i);
    ck_assert_int_eq(redirect_parse_ports(buf_slice(&text), false, &ports, &err), 0);
    ck_assert_int_eq(ports.n, REDIRECT_MAX_PORTS);
    buf_add_str(&text, ",9999");
    ck_assert_int_eq(redirect_parse_ports(buf_slice(&text), false, &ports, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    buf_reset(&text);
    for (int i = 0; i <= REDIRECT_MAX_RANGES; i++)
        buf_addf(&text, "%s10.0.%d.0/24", i ? "," : "", i);
    ck_assert_int_eq(redirect_parse_ranges(buf_slice(&text), false, &ranges, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT);
    buf_fini(&text);
}
END_TEST

START_TEST(render_checks)
{
    struct redirect_settings s;
    struct err err = {0};
    struct buf out;
    buf_init(&out, 100);
    redirect_defaults(&s);
    ck_assert_int_eq(redirect_render(&s, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_LIMIT); /* the buffer's maximum, not a cut ruleset */
    s.inbound_port = s.outbound_port;
    ck_assert_int_eq(redirect_render(&s, &out, &err), -1);
    ck_assert_int_eq(err.code, ERR_INVALID);
    buf_fini(&out);
}
END_TEST

TESTS(redirect)
{
    tcase_add_test(tc, golden);
    tcase_add_test(tc, kernel_takes_it);
    tcase_add_loop_test(tc, refusals, 0, N_OF(refused));
    tcase_add_test(tc, limits);
    tcase_add_test(tc, render_checks);
}

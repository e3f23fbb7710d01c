/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/rand.h"
#include "lib/http/head.h"

/* The rule of RFC 9110 5.5, byte by byte. */
static size_t text_len(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n && ((unsigned char)p[i] >= 0x20 || p[i] == '\t') && p[i] != 0x7f)
        i++;
    return i;
}

/* Each byte value at each place of texts of each length: the wide scan agrees with the rule. */
START_TEST(text_each_byte)
{
    char text[40];
    for (size_t n = 0; n <= 26; n++) {
        for (size_t at = 0; at < n; at++) {
            for (int b = 0; b < 256; b++) {
                memset(text, at % 2 ? 'x' : 0xff, sizeof text);
                memset(text + n, '\0', sizeof text - n); /* what is behind the end does not count */
                text[at] = (char)b;
                ck_assert_msg(http_text_len(text, n) == text_len(text, n), "%02x at %zu of %zu", b,
                              at, n);
            }
        }
    }
    ck_assert_uint_eq(http_text_len(NULL, 0), 0);
    ck_assert(http_value_ok(SLICE_NULL));
}
END_TEST

/* Several controls and tabs: the first control counts. */
START_TEST(text_mixed)
{
    static const char bytes[] = {'a', '\t', ' ', '~', '\x1f', '\x7f', '\r', '\0', '\x80', '\xff'};
    struct rnd r;
    char text[64];
    rnd_init_seed(&r, 7);
    for (int round = 0; round < 20000; round++) {
        size_t n = rnd_u64(&r) % sizeof text;
        uint64_t rare = rnd_u64(&r) % 3;
        for (size_t i = 0; i < n; i++)
            text[i] = rnd_u64(&r) % 20 < rare ? bytes[rnd_u64(&r) % sizeof bytes] : '\t';
        ck_assert_uint_eq(http_text_len(text, n), text_len(text, n));
    }
}
END_TEST

/* clang-format off */
static const struct { const char *name; bool ok; } names[] = { /* RFC 9110 5.6.2 */
    {"host", true}, {"X-A_b.c", true}, {"!#$%&'*+-.^_`|~09azAZ", true}, {"", false}, {"a b", false},
    {"a:", false}, {"a\r", false}, {"\xc3\xa4", false}, {"(a)", false}, {"a/b", false}, {"[a]", false},
    {"a,b", false}, {"a;b", false}, {"a=b", false}, {"a\"", false}, {"a\x7f", false}, {"{a}", false},
};
/* clang-format on */

START_TEST(name_rule)
{
    ck_assert_msg(http_name_ok(slice_str(names[_i].name)) == names[_i].ok, "%s", names[_i].name);
}
END_TEST

static void show(const struct http_head *h, struct buf *out)
{
    buf_reset(out);
    for (uint32_t i = 0; i < h->n_fields; i++)
        buf_addf(out, "%.*s=%.*s;", SL_FMT(h->fields[i].name), SL_FMT(h->fields[i].value));
}

START_TEST(fields)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    CLEANUP(buf_freep) struct buf out;
    struct http_head h;
    char name[] = "X-A", value[] = "1";
    buf_init(&out, 1 << 16);
    http_head_init(&h, &a);
    ck_assert_ptr_null(http_head_get(&h, SL("x-a")).p);
    ck_assert_ptr_null(http_head_joined(&h, SL("x-a")).p);
    ck_assert_int_eq(http_head_add(&h, slice_str(name), slice_str(value)), ERR_OK);
    memset(name, '?', 3); /* it is a copy */
    value[0] = '?';
    ck_assert_int_eq(http_head_add(&h, SL("b"), SL("")), ERR_OK);
    ck_assert_int_eq(http_head_add(&h, SL("x-A"), SL("2")), ERR_OK);
    show(&h, &out);
    ck_assert_str_eq(buf_cstr(&out), "x-a=1;b=;x-a=2;");
    ck_assert(slice_is(http_head_get(&h, SL("x-a")), "1"));
    ck_assert_ptr_nonnull(http_head_get(&h, SL("b")).p); /* empty is not absent */
    ck_assert(slice_is(http_head_joined(&h, SL("x-a")), "1,2"));
    ck_assert(slice_is(http_head_joined(&h, SL("b")), ""));
    ck_assert_int_eq(http_head_next(&h, SL("x-a"), 0), 0);
    ck_assert_int_eq(http_head_next(&h, SL("x-a"), 1), 2);
    ck_assert_int_eq(http_head_next(&h, SL("x-a"), 3), -1);
    ck_assert_int_eq(http_head_set(&h, SL("X-a"), SL("3")), ERR_OK);
    show(&h, &out);
    ck_assert_str_eq(buf_cstr(&out), "b=;x-a=3;");
    ck_assert_int_eq(http_head_set(&h, SL("x-a"), SL("a\r\nb: c")), ERR_INVALID);
    ck_assert_int_eq(http_head_add(&h, SL("x a"), SL("")), ERR_INVALID);
    http_head_remove(&h, SL("b"));
    http_head_remove(&h, SL("nothing"));
    show(&h, &out);
    ck_assert_str_eq(buf_cstr(&out), "x-a=3;");
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(http_head_add(&h, SL("n"), SL("v")), ERR_OK);
    ck_assert_uint_eq(h.n_fields, 101);
    ck_assert_uint_eq(http_head_joined(&h, SL("n")).len, 199);
}
END_TEST

START_TEST(reasons)
{
    ck_assert_str_eq(http_reason(404), "Not Found");
    ck_assert_str_eq(http_reason(599), "");
}
END_TEST

START_TEST(out_of_memory)
{
    OOM_SWEEP (n) {
        CLEANUP(arena_free) struct arena a = ARENA_INIT;
        struct http_head h;
        int added = 0;
        http_head_init(&h, &a);
        for (int i = 0; i < 40; i++)
            added += http_head_add(&h, SL("name"), SL("a value")) == ERR_OK;
        ck_assert_int_eq(added, (int)h.n_fields);
        struct slice joined = http_head_joined(&h, SL("name"));
        ck_assert(joined.p || mem_fail_hit());
        ck_assert(added == 40 || mem_fail_hit());
    }
}
END_TEST

TESTS(head)
{
    tcase_add_test(tc, text_each_byte);
    tcase_add_test(tc, text_mixed);
    tcase_add_loop_test(tc, name_rule, 0, N_OF(names));
    tcase_add_test(tc, fields);
    tcase_add_test(tc, reasons);
    tcase_add_test(tc, out_of_memory);
}

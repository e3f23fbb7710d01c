/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/obs/tracectx.h"

#include "tests/unit/tcase.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"
#define UPPER "4BF92F3577B34DA6A3CE929D0E0E4736"

static const struct {
    const char *in;
    const char *out; /* NULL: refused */
} parents[] = {
    /* W3C Trace Context 3.2 */
    {"00-" TRACE "-" SPAN "-01", "00-" TRACE "-" SPAN "-01"},
    {"00-" TRACE "-" SPAN "-00", "00-" TRACE "-" SPAN "-00"},
    {" 00-" TRACE "-" SPAN "-03 ", "00-" TRACE "-" SPAN "-01"},
    {"cc-" TRACE "-" SPAN "-01-what-comes", "00-" TRACE "-" SPAN "-01"},
    {"cc-" TRACE "-" SPAN "-01", "00-" TRACE "-" SPAN "-01"},
    {"00-" TRACE "-" SPAN "-01-more", NULL},
    {"cc-" TRACE "-" SPAN "-01x", NULL},
    {"ff-" TRACE "-" SPAN "-01", NULL},
    {"00-" UPPER "-" SPAN "-01", NULL},
    {"00-00000000000000000000000000000000-" SPAN "-01", NULL},
    {"00-" TRACE "-0000000000000000-01", NULL},
    {"00-" TRACE "-" SPAN "-0", NULL},
    {"00-" TRACE "-" SPAN "-0x", NULL},
    {"00_" TRACE "-" SPAN "-01", NULL},
    {"0-" TRACE "-" SPAN "-001", NULL},
    {"", NULL},
};

START_TEST(w3c)
{
    struct trace_ctx t;
    char text[TRACEPARENT_TEXT];
    enum err_code rc = trace_parse_w3c(slice_str(parents[_i].in), &t);

    ck_assert_int_eq(rc, parents[_i].out ? ERR_OK : ERR_INVALID);
    if (parents[_i].out)
        ck_assert_str_eq(trace_format_w3c(&t, text), parents[_i].out);
}
END_TEST

START_TEST(tracestate)
{
    static char many[600];

    ck_assert(tracestate_valid(SL("a=1")) && tracestate_valid(SL("rojo=00f0,congo=t61 ,,x=")));
    ck_assert(!tracestate_valid(SL("")) && !tracestate_valid(SL("a")) &&
              !tracestate_valid(SL("=1")));
    ck_assert(!tracestate_valid(SL("a=\x01")) && !tracestate_valid(SL("a=\xff")));
    memset(many, 'a', sizeof many);
    many[1] = '=';
    ck_assert(tracestate_valid(slice_of(many, 512)) && !tracestate_valid(slice_of(many, 513)));
    for (int i = 0; i < 33 * 4; i += 4)
        memcpy(many + i, "a=1,", 4);
    ck_assert(tracestate_valid(slice_of(many, 32 * 4 - 1)));
    ck_assert(!tracestate_valid(slice_of(many, 33 * 4 - 1)));
}
END_TEST

static const struct {
    const char *in;
    enum err_code code;
    const char *out;
    bool sampled, decided, debug;
} b3s[] = {
    {TRACE "-" SPAN "-1", ERR_OK, TRACE "-" SPAN "-1", true, true, false},
    {TRACE "-" SPAN "-0", ERR_OK, TRACE "-" SPAN "-0", false, true, false},
    {TRACE "-" SPAN "-d-05e3ac9a4f6e3b90", ERR_OK, TRACE "-" SPAN "-d-05e3ac9a4f6e3b90", true, true,
     true},
    {TRACE "-" SPAN, ERR_OK, TRACE "-" SPAN "-0", false, false, false},
    {UPPER "-" SPAN "-1", ERR_OK, TRACE "-" SPAN "-1", true, true, false},
    {"a3ce929d0e0e4736-" SPAN "-1", ERR_OK, "0000000000000000a3ce929d0e0e4736-" SPAN "-1", true,
     true, false},
    {"0", ERR_NOT_FOUND, NULL, false, true, false},
    {"d", ERR_NOT_FOUND, NULL, true, true, true},
    {"x", ERR_INVALID, NULL, false, false, false},
    {"", ERR_INVALID, NULL, false, false, false},
    {TRACE, ERR_INVALID, NULL, false, false, false},
    {TRACE "-" SPAN "-2", ERR_INVALID, NULL, false, false, false},
    {TRACE "-" SPAN "-1-" SPAN "-x", ERR_INVALID, NULL, false, false, false},
    {TRACE "-" SPAN "-1-", ERR_INVALID, NULL, false, false, false},
    {TRACE "-" SPAN "x-1", ERR_INVALID, NULL, false, false, false},
    {TRACE "-0000000000000000-1", ERR_INVALID, NULL, false, false, false},
};

START_TEST(b3)
{
    struct trace_ctx t = {0};
    char text[TRACE_B3_TEXT];

    ck_assert_int_eq(trace_parse_b3(slice_str(b3s[_i].in), &t), b3s[_i].code);
    if (b3s[_i].code == ERR_INVALID)
        return;
    ck_assert(t.sampled == b3s[_i].sampled && t.decided == b3s[_i].decided &&
              t.debug == b3s[_i].debug);
    if (b3s[_i].out)
        ck_assert_str_eq(trace_format_b3(&t, text), b3s[_i].out);
}
END_TEST

START_TEST(b3_multi)
{
    struct trace_b3_fields f = {.trace_id = SL(TRACE), .span_id = SL(SPAN), .sampled = SL("1")};
    struct trace_ctx t;
    char text[TRACE_B3_TEXT];

    ck_assert_int_eq(trace_parse_b3_multi(&f, &t), ERR_OK);
    ck_assert_str_eq(trace_format_b3(&t, text), TRACE "-" SPAN "-1");
    f.sampled = SL("maybe");
    ck_assert_int_eq(trace_parse_b3_multi(&f, &t), ERR_INVALID);
    f.sampled = SLICE_NULL;
    f.flags = SL("1");
    f.parent_id = SL("05e3ac9a4f6e3b90");
    ck_assert_int_eq(trace_parse_b3_multi(&f, &t), ERR_OK);
    ck_assert_str_eq(trace_format_b3(&t, text), TRACE "-" SPAN "-d-05e3ac9a4f6e3b90");
    f.span_id = SLICE_NULL;
    ck_assert_int_eq(trace_parse_b3_multi(&f, &t), ERR_INVALID);
    f = (struct trace_b3_fields){.sampled = SL("0")};
    ck_assert_int_eq(trace_parse_b3_multi(&f, &t), ERR_NOT_FOUND);
    ck_assert(t.decided && !t.sampled);
}
END_TEST

START_TEST(spans)
{
    struct rnd r;
    struct trace_ctx root, child;
    char text[TRACEPARENT_TEXT];

    rnd_init_seed(&r, 1);
    trace_new(&r, true, &root);
    trace_child(&root, &r, &child);
    ck_assert(memcmp(root.trace_id, child.trace_id, 16) == 0);
    ck_assert(memcmp(root.span_id, child.parent_id, 8) == 0);
    ck_assert(memcmp(root.span_id, child.span_id, 8) != 0);
    ck_assert(child.sampled);
    ck_assert_int_eq(trace_parse_w3c(slice_str(trace_format_w3c(&child, text)), &root), ERR_OK);
    trace_child(&child, &r, &child); /* in place */
    ck_assert(memcmp(root.span_id, child.parent_id, 8) == 0);
}
END_TEST

START_TEST(request_ids)
{
    struct rnd r;
    char a[REQUEST_ID_TEXT], b[REQUEST_ID_TEXT];

    rnd_init_seed(&r, 7);
    request_id_new(&r, a);
    request_id_new(&r, b);
    ck_assert_str_ne(a, b);
    ck_assert_uint_eq(strlen(a), 36);
    ck_assert(a[8] == '-' && a[13] == '-' && a[14] == '4' && a[18] == '-' && a[23] == '-');
    ck_assert(strchr("89ab", a[19]) != NULL);
}
END_TEST

TESTS(tracectx)
{
    tcase_add_loop_test(tc, w3c, 0, (int)N_OF(parents));
    tcase_add_test(tc, tracestate);
    tcase_add_loop_test(tc, b3, 0, (int)N_OF(b3s));
    tcase_add_test(tc, b3_multi);
    tcase_add_test(tc, spans);
    tcase_add_test(tc, request_ids);
}

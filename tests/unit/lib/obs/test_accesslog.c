/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/obs/accesslog.h"

#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/data/json.h"
#include "tests/unit/tcase.h"

#define WALL (INT64_C(1785579630123456789))

/* One request; `hostile` overrides the path, the agent and the SNI. */
struct request {
    const char *hostile;
};

static void value(void *user, enum al_op op, struct slice arg, struct buf *out)
{
    const struct request *r = user;

    switch (op) {
    case AL_START_TIME:
        al_time(WALL, arg, out);
        break;
    case AL_REQ:
        if (slice_is(arg, ":method"))
            buf_add_str(out, "GET");
        else if (slice_is(arg, ":path") || slice_is(arg, "user-agent"))
            buf_add_str(out, r->hostile ? r->hostile : "/reviews");
        else if (slice_is(arg, ":authority"))
            buf_add_str(out, "reviews:9080");
        break;
    case AL_PROTOCOL:
        buf_add_str(out, "HTTP/1.1");
        break;
    case AL_RESPONSE_CODE:
        buf_add_u64(out, 200);
        break;
    case AL_RESPONSE_CODE_DETAILS:
        buf_add_str(out, "via_upstream");
        break;
    case AL_BYTES_RECEIVED:
    case AL_BYTES_SENT:
    case AL_DURATION:
        buf_add_u64(out, op == AL_DURATION ? 7 : 0);
        break;
    case AL_RESP:
        buf_add_str(out, "6");
        break;
    case AL_UPSTREAM_HOST:
        buf_add_str(out, "10.0.0.2:9080");
        break;
    case AL_UPSTREAM_CLUSTER_RAW:
        buf_add_str(out, "outbound|9080||reviews.default.svc.cluster.local");
        break;
    case AL_REQUESTED_SERVER_NAME:
        if (r->hostile)
            buf_add_str(out, r->hostile);
        break;
    case AL_ROUTE_NAME:
        buf_add_str(out, "default");
        break;
    default:
        break;
    }
}

static const char *line(const char *format, bool json, const char *hostile, struct buf *out)
{
    struct request r = {hostile};
    struct err err = {0};
    CLEANUP(al_freep) struct al_program *p = NULL;

    ck_assert_msg(al_compile(slice_str(format), json, &p, &err) == 0, "%s", err.msg);
    buf_init(out, 100000);
    al_write(p, value, &r, out);
    ck_assert_int_eq(buf_err(out), ERR_OK);
    return buf_cstr(out);
}

START_TEST(default_text)
{
    CLEANUP(buf_freep) struct buf b;

    ck_assert_str_eq(
        line("", false, NULL, &b),
        "[2026-08-01T10:20:30.123Z] \"GET /reviews HTTP/1.1\" 200 - via_upstream - \"-\" 0 0 7 6 "
        "\"-\" \"/reviews\" \"-\" \"reviews:9080\" \"10.0.0.2:9080\" "
        "outbound|9080||reviews.default.svc.cluster.local - - - - default\n");
}
END_TEST

START_TEST(default_json)
{
    CLEANUP(buf_freep) struct buf b;
    CLEANUP(json_freep) json_t *v = NULL;
    struct err err = {0};
    const char *s = line("", true, NULL, &b);

    ck_assert_msg(json_parse(buf_slice(&b), NULL, &v, &err) == 0, "%s: %s", err.msg, s);
    ck_assert_uint_eq(json_object_size(v), 24);
    ck_assert_int_eq(json_integer_value(json_object_get(v, "response_code")), 200);
    ck_assert(json_is_integer(json_object_get(v, "duration")));
    ck_assert_str_eq(json_string_value(json_object_get(v, "upstream_service_time")), "6");
    ck_assert(json_is_null(json_object_get(v, "response_flags")));
    ck_assert(json_is_null(json_object_get(v, "x_forwarded_for")));
    ck_assert_str_eq(json_string_value(json_object_get(v, "path")), "/reviews");
    ck_assert(strncmp(s, "{\"start_time\":\"2026-08-01T10:20:30.123Z\",\"method\":", 50) == 0);
}
END_TEST

static const struct {
    const char *format;
    bool json;
    const char *want; /* a line, or the error */
    enum err_code code;
} formats[] = {
    {"%REQ(:PATH)% 100%%", false, "/reviews 100%\n", 0},
    {"%REQ(X-A?:METHOD)%|%REQ(:METHOD?X-A)%", false, "GET|GET\n", 0},
    {"%REQ(:PATH):4%", false, "/rev\n", 0},
    {"%ROUTE_NAME:3%\n", false, "def\n", 0},
    {"%START_TIME(%Y/%m/%d %H:%M:%S.%3f %6f %f %s %%)%", false,
     "2026/08/01 10:20:30.123 123456 123456789 1785579630 %\n", 0},
    {"no operator", false, "no operator\n", 0},
    {"{\"b\":\"%DURATION%\",\"a\":\"x %DURATION% %REQ(x)%\",\"n\":{\"k\":7,\"t\":true},\"e\":{},"
     "\"p\":\"50%%\",\"h\":\"%HOSTNAME%\",\"\\\"\":\"%REQ(:METHOD)%%REQ(:METHOD)%\"}",
     true,
     "{\"b\":7,\"a\":\"x 7 "
     "-\",\"n\":{\"k\":7,\"t\":true},\"e\":{},\"p\":\"50%\",\"h\":null,\"\\\"\":"
     "\"GETGET\"}\n",
     0},
    {"%NO_SUCH%", false, "access log operator %NO_SUCH% is not one that Tulle fills", ERR_UNSUPPORTED},
    {"%DYNAMIC_METADATA(a)%", false, "access log operator %DYNAMIC_METADATA% is not one that Tulle fills",
     ERR_UNSUPPORTED},
    {"100%", false, "access log operator %% is not one that Tulle fills", ERR_UNSUPPORTED},
    {"%REQ%", false, "access log operator REQ needs the name of a header", ERR_INVALID},
    {"%REQ()%", false, "access log operator REQ needs the name of a header", ERR_INVALID},
    {"%REQ(a?)%", false, "access log operator REQ needs the name of a header", ERR_INVALID},
    {"%REQ(a%", false, "access log operator REQ lacks a ')'", ERR_INVALID},
    {"%DURATION(a)%", false, "access log operator DURATION takes no argument", ERR_INVALID},
    {"%DURATION", false, "access log operator DURATION lacks its closing '%'", ERR_INVALID},
    {"%REQ(a):0%", false, "access log operator REQ: length must be 1..8192", ERR_INVALID},
    {"%REQ(a):9999999%", false, "access log operator REQ: length must be 1..8192", ERR_INVALID},
    {"[1]", true, "access log format must be an object, is an array", ERR_INVALID},
    {"{\"a\":[1]}", true, "access log format: lists and deep nesting are not supported",
     ERR_INVALID},
    {"{", true, "access log format: line 1 column 2: ", ERR_INVALID},
};

START_TEST(format)
{
    CLEANUP(buf_freep) struct buf b = {0};
    CLEANUP(al_freep) struct al_program *p = NULL;
    struct err err = {0};

    if (formats[_i].code == ERR_OK) {
        ck_assert_str_eq(line(formats[_i].format, formats[_i].json, NULL, &b), formats[_i].want);
        return;
    }
    ck_assert_int_eq(al_compile(slice_str(formats[_i].format), formats[_i].json, &p, &err), -1);
    ck_assert_int_eq(err.code, formats[_i].code);
    ck_assert_msg(strncmp(err.msg, formats[_i].want, strlen(formats[_i].want)) == 0, "%s", err.msg);
}
END_TEST

static const char *const attacks[] = {
    "/a\r\n[2026] \"GET /forged",
    "/a\" 200 - \"x",
    "\x1b[2J\x1b]0;t\x07",
    "<script>alert(1)</script>",
    "\\\"\\",
    "\xff\xfe\xc3\xa9\xe2\x80\xa8",
    "a b c",
    "",
    "\"}\n{\"response_code\":500",
};

/* Whatever comes in path, agent and SNI: one line, the same number of fields, parseable JSON. */
START_TEST(hostile_values)
{
    CLEANUP(buf_freep) struct buf text;
    CLEANUP(buf_freep) struct buf js;
    CLEANUP(json_freep) json_t *v = NULL;
    struct err err = {0};
    const char *s = line("", false, attacks[_i], &text);
    int quotes = 0, fields = 0;

    for (size_t i = 0; s[i]; i++) {
        ck_assert_msg((s[i] >= 0x20 && s[i] < 0x7f) || s[i + 1] == '\0', "%s", s);
        if (s[i] == '"' && s[i - 1] != '\\')
            quotes++;
        fields += s[i] == ' ' && quotes % 2 == 0;
    }
    if (!strstr(attacks[_i], "\\"))
        ck_assert_int_eq(quotes, 14);
    if (!strstr(attacks[_i], "\\"))
        ck_assert_int_eq(fields, 21);
    s = line("", true, attacks[_i], &js);
    ck_assert_ptr_eq(strchr(s, '\n'), s + strlen(s) - 1);
    ck_assert_msg(json_parse(buf_slice(&js), NULL, &v, &err) == 0, "%s: %s", err.msg, s);
    ck_assert_int_eq(json_integer_value(json_object_get(v, "response_code")), 200);
    ck_assert_uint_eq(json_object_size(v), 24);
}
END_TEST

START_TEST(long_values)
{
    static char big[50000];
    CLEANUP(buf_freep) struct buf b;
    CLEANUP(al_freep) struct al_program *p = NULL;
    struct request r = {big};
    struct err err = {0};

    memset(big, '\x01', sizeof big - 1);
    ck_assert_int_eq(al_compile(SL("%REQ(:PATH)%"), false, &p, &err), 0);
    buf_init(&b, 200000);
    al_write(p, value, &r, &b);
    ck_assert_uint_eq(buf_len(&b), 4 * 8192 + 1);
    buf_fini(&b);
    buf_init(&b, 1000); /* too small: nothing of the line stays */
    buf_add_str(&b, "before");
    al_write(p, value, &r, &b);
    ck_assert_int_eq(buf_err(&b), ERR_LIMIT);
    ck_assert_uint_eq(buf_len(&b), 6);
}
END_TEST

START_TEST(uses)
{
    CLEANUP(al_freep) struct al_program *p = NULL;
    struct err err = {0};

    ck_assert_int_eq(al_compile(SL("%DURATION% %HOSTNAME%"), false, &p, &err), 0);
    ck_assert(al_uses(p, AL_DURATION) && al_uses(p, AL_HOSTNAME) && !al_uses(p, AL_REQ));
    ck_assert_str_eq(al_op_name(AL_HOSTNAME), "HOSTNAME");
}
END_TEST

START_TEST(arguments)
{
    static const char *const want[] = {"a", "b", "c"};
    CLEANUP(al_freep) struct al_program *p = NULL;
    struct err err = {0};

    ck_assert_int_eq(
        al_compile(SL("x %RESP(A?B)% %REQ(d)% %DURATION% %RESP(C)%"), false, &p, &err), 0);
    for (size_t i = 0; i < N_OF(want); i++)
        ck_assert(slice_is(al_arg(p, AL_RESP, i), want[i]));
    ck_assert_ptr_null(al_arg(p, AL_RESP, N_OF(want)).p);
    ck_assert_ptr_null(al_arg(p, AL_TRAILER, 0).p);
}
END_TEST

START_TEST(oom)
{
    json_setup();
    for (int json = 0; json < 2; json++)
        OOM_SWEEP (n) {
            CLEANUP(al_freep) struct al_program *p = NULL;
            CLEANUP(buf_freep) struct buf b;
            struct request r = {NULL};
            struct err err = {0};

            buf_init(&b, 10000);
            if (al_compile(SLICE_NULL, json, &p, &err) < 0)
                ck_assert_msg(err.code == ERR_NOMEM, "%s", err.msg);
            else
                al_write(p, value, &r, &b);
        }
}
END_TEST

TESTS(accesslog)
{
    tcase_add_test(tc, default_text);
    tcase_add_test(tc, default_json);
    tcase_add_loop_test(tc, format, 0, (int)N_OF(formats));
    tcase_add_loop_test(tc, hostile_values, 0, (int)N_OF(attacks));
    tcase_add_test(tc, long_values);
    tcase_add_test(tc, uses);
    tcase_add_test(tc, arguments);
    tcase_add_test(tc, oom);
}

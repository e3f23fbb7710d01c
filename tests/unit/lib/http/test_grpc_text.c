/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include "lib/http/grpc_int.h"

/* clang-format off */
static const struct { struct slice plain; const char *coded; } texts[] = {
    {SL("plain text"),     "plain text"},
    {SL(""),               ""},
    {SL("100%"),           "100%25"},
    {SL("a\r\nb\t\x7f"),   "a%0D%0Ab%09%7F"},
    {SL("\xc3\xa4~ !"),    "%C3%A4~ !"},
    {SL("%41"),            "%2541"},
};
static const struct { const char *coded, *plain; } lenient[] = {
    {"%e4%BD%a0", "\xe4\xbd\xa0"}, {"%", "%"}, {"%4", "%4"}, {"%zz", "%zz"}, {"a%4", "a%4"},
    {"%%41", "%A"}, {"+", "+"},
};
static const struct { const char *text; bool ok; int64_t ns; } timeouts[] = {
    {"1n", true, 1},                      {"1u", true, 1000},
    {"1m", true, NS_PER_MS},              {"1S", true, NS_PER_S},
    {"1M", true, 60 * NS_PER_S},          {"1H", true, 3600 * NS_PER_S},
    {"0m", true, 0},                      {"99999999n", true, 99999999},
    {"00000005S", true, 5 * NS_PER_S},    {"99999999H", true, INT64_C(1000000000) * NS_PER_S},
    {"99999999S", true, 99999999 * NS_PER_S},
    {"", false, 0},     {"1", false, 0},   {"S", false, 0},   {"1s", false, 0},
    {"-1S", false, 0},  {"+1S", false, 0}, {"1.5S", false, 0}, {"1 S", false, 0},
    {" 1S", false, 0},  {"1S ", false, 0}, {"1SS", false, 0},  {"123456789n", false, 0},
};
static const struct { int64_t ns; const char *want; } formats[] = {
    {1, "1n"}, {99999999, "99999999n"}, {100000000, "100000u"}, {NS_PER_S, "1000000u"},
    {10 * NS_PER_S, "10000000u"}, {100 * NS_PER_S, "100000m"}, {100000 * NS_PER_S, "100000S"},
    {INT64_MAX, "2562047H"},
};
static const struct { const char *type; bool ok; } types[] = {
    {"application/grpc", true},          {"application/grpc+proto", true},
    {"application/grpc;charset=x", true}, {"Application/GRPC", true},
    {"application/grpc-web", false},     {"application/grpcx", false},
    {"application/grp", false},          {"application/json", false}, {"", false},
};
static const struct { unsigned http; enum grpc_status want; } https[] = {
    {400, GRPC_INTERNAL}, {401, GRPC_UNAUTHENTICATED}, {403, GRPC_PERMISSION_DENIED},
    {404, GRPC_UNIMPLEMENTED}, {429, GRPC_UNAVAILABLE}, {500, GRPC_UNKNOWN},
    {502, GRPC_UNAVAILABLE}, {503, GRPC_UNAVAILABLE}, {504, GRPC_UNAVAILABLE}, {200, GRPC_UNKNOWN},
};
/* clang-format on */

START_TEST(percent)
{
    char coded[64];
    grpc_percent_encode(texts[_i].plain, coded, sizeof coded);
    ck_assert_str_eq(coded, texts[_i].coded);
    char *back = grpc_percent_decode(slice_str(coded));
    ck_assert(slice_eq(slice_str(back), texts[_i].plain));
    mem_free(back);
}
END_TEST

START_TEST(percent_is_read_leniently)
{
    char *plain = grpc_percent_decode(slice_str(lenient[_i].coded));
    ck_assert_str_eq(plain, lenient[_i].plain);
    mem_free(plain);
}
END_TEST

START_TEST(percent_is_cut)
{
    for (size_t cap = 1; cap < 12; cap++) {
        char *out = mem_alloc(cap);
        grpc_percent_encode(SL("a\xff\xff\xff"), out, cap);
        ck_assert_uint_lt(strlen(out), cap);
        ck_assert(slice_starts(SL("a%FF%FF%FF"), slice_str(out)));
        mem_free(out);
    }
}
END_TEST

START_TEST(timeout_read)
{
    int64_t ns = -1;
    ck_assert_msg(grpc_timeout_parse(slice_str(timeouts[_i].text), &ns) == timeouts[_i].ok, "%s",
                  timeouts[_i].text);
    if (timeouts[_i].ok)
        ck_assert_int_eq(ns, timeouts[_i].ns);
}
END_TEST

START_TEST(timeout_written)
{
    char text[16];
    int64_t ns;
    grpc_timeout_format(formats[_i].ns, text);
    ck_assert_str_eq(text, formats[_i].want);
    ck_assert(grpc_timeout_parse(slice_str(text), &ns));
}
END_TEST

START_TEST(content_type)
{
    ck_assert_msg(grpc_content_type(slice_str(types[_i].type)) == types[_i].ok, "%s",
                  types[_i].type);
}
END_TEST

START_TEST(http_status)
{
    ck_assert_int_eq(grpc_status_of_http(https[_i].http), https[_i].want);
}
END_TEST

/* However the bytes come, and a message counts with its prefix. */
START_TEST(messages)
{
    static const char body[] = "\0\0\0\0\3abc" "\1\0\0\0\0" "\0\0\0\1\1";
    char all[sizeof body - 1 + 257 + 9];
    memcpy(all, body, sizeof body - 1);
    memset(all + sizeof body - 1, 'x', 257);
    memcpy(all + sizeof body - 1 + 257, "\0\0\0\0\7hal", 8);
    for (size_t piece = 1; piece < 40; piece++) {
        struct grpc_counter c = {0};
        for (size_t at = 0; at < sizeof all - 1; at += piece)
            grpc_count(&c, slice_of(all + at, MIN(piece, sizeof all - 1 - at)));
        ck_assert_uint_eq(c.messages, 4);
        ck_assert_uint_eq(c.left, 4);
        grpc_count(&c, SL("loes\0\0\0\0"));
        ck_assert_uint_eq(c.messages, 4);
    }
}
END_TEST

START_TEST(names)
{
    ck_assert_str_eq(grpc_status_name(GRPC_OK), "OK");
    ck_assert_str_eq(grpc_status_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
    ck_assert_str_eq(grpc_status_name((enum grpc_status)17), "UNKNOWN");
}
END_TEST

TESTS(grpc_text)
{
    tcase_add_loop_test(tc, percent, 0, N_OF(texts));
    tcase_add_loop_test(tc, percent_is_read_leniently, 0, N_OF(lenient));
    tcase_add_test(tc, percent_is_cut);
    tcase_add_loop_test(tc, timeout_read, 0, N_OF(timeouts));
    tcase_add_loop_test(tc, timeout_written, 0, N_OF(formats));
    tcase_add_loop_test(tc, content_type, 0, N_OF(types));
    tcase_add_loop_test(tc, http_status, 0, N_OF(https));
    tcase_add_test(tc, messages);
    tcase_add_test(tc, names);
}

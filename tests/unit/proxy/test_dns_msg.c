/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dns_msg.h"

#include <string.h>

#include "tests/unit/tcase.h"

#define HEAD "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
#define LIT(s) {s, sizeof(s) - 1}

static const struct {
    const char *name;
    struct slice msg;
    const char *want; /* NULL: refused */
} questions[] = {
    {"plain", LIT(HEAD "\4cart\7default\0\0\1\0\1"), "cart.default"},
    {"upper case", LIT(HEAD "\4CaRt\0\0\1\0\1"), "cart"},
    {"root", LIT(HEAD "\0\0\1\0\1"), ""},
    {"with EDNS behind", LIT("\1\2\1\0\0\1\0\0\0\0\0\1\1a\0\0\34\0\1\0\0\51\4\0\0\0\0\0\0\0"), "a"},
    {"an answer", LIT("\1\2\x81\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"), NULL},
    {"two questions", LIT("\1\2\1\0\0\2\0\0\0\0\0\0\1a\0\0\1\0\1\1b\0\0\1\0\1"), NULL},
    {"other opcode", LIT("\1\2\x28\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1"), NULL},
    {"compressed", LIT(HEAD "\1a\xc0\x0c\0\1\0\1"), NULL},
    {"label over its end", LIT(HEAD "\x20" "abc\0\0\1\0\1"), NULL},
    {"no end", LIT(HEAD "\4cart"), NULL},
    {"type missing", LIT(HEAD "\4cart\0\0\1"), NULL},
    {"dot in a label", LIT(HEAD "\3a.b\0\0\1\0\1"), NULL},
    {"too short", LIT("\1\2\1"), NULL},
};

START_TEST(question)
{
    struct dns_question q;
    enum err_code rc = dns_question_parse(questions[_i].msg, &q);
    ck_assert_msg((rc == ERR_OK) == (questions[_i].want != NULL), "%s", questions[_i].name);
    if (rc == ERR_OK)
        ck_assert_str_eq(q.name, questions[_i].want);
}
END_TEST

static const struct {
    const char *name;
    uint16_t type, class_, answers;
    size_t more; /* bytes of records */
} answers[] = {
    {"A", DNS_A, DNS_IN, 2, 32},
    {"AAAA", DNS_AAAA, DNS_IN, 1, 28},
    {"other types: empty, no NXDOMAIN", 16, DNS_IN, 0, 0},
    {"other classes", DNS_A, 3, 0, 0},
};

START_TEST(answer)
{
    char msg[] = HEAD "\4cart\0\0\0\0\0";
    static const unsigned char v6[16] = {0xfd, [15] = 1};
    struct slice list[] = {slice_of("\x0a\0\0\1", 4), slice_of((const char *)v6, 16),
                           slice_of("\x0a\0\0\2", 4)};
    struct prog_strings addresses = {.p = list, .n = 3};
    struct dns_question q;
    struct buf out;
    msg[19] = (char)answers[_i].type;
    msg[21] = (char)answers[_i].class_;
    struct slice m = slice_of(msg, sizeof msg - 1);
    ck_assert_int_eq(dns_question_parse(m, &q), ERR_OK);
    buf_init(&out, 4096);
    dns_answer_write(&out, m, &q, &addresses, 30);
    const unsigned char *p = (const unsigned char *)out.p;
    ck_assert_uint_eq(buf_len(&out), m.len + answers[_i].more);
    ck_assert_mem_eq(p, "\x12\x34\x85\x80\0\1\0", 7);
    ck_assert_uint_eq(p[7], answers[_i].answers);
    if (answers[_i].answers)
        ck_assert_mem_eq(p + m.len, "\xc0\x0c", 2);
    buf_fini(&out);
}
END_TEST

START_TEST(failure)
{
    struct slice m = questions[0].msg;
    struct dns_question q;
    struct buf out;
    ck_assert_int_eq(dns_question_parse(m, &q), ERR_OK);
    buf_init(&out, 4096);
    dns_failure_write(&out, m, &q);
    ck_assert_mem_eq(out.p, "\x12\x34\x85\x82", 4);
    buf_fini(&out);
}
END_TEST

TESTS(dns_msg)
{
    tcase_add_loop_test(tc, question, 0, N_OF(questions));
    tcase_add_loop_test(tc, answer, 0, N_OF(answers));
    tcase_add_test(tc, failure);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages, as far as the capture needs them (RFC 1035): read one question, write an answer with
 * addresses. Pure; every length is checked, compression in a question is refused. */
#pragma once

#include "lib/base/buf.h"
#include "mesh/match/program.h"

enum { DNS_A = 1, DNS_AAAA = 28, DNS_IN = 1, DNS_NAME_MAX = 254, DNS_UDP_MAX = 4096 };

struct dns_question {
    uint16_t id, flags, type, class_;
    char name[DNS_NAME_MAX]; /* lower case, no trailing dot, NUL-terminated; "" for the root */
    size_t end;              /* one past the question in the message */
};
/* A standard query with exactly one question. ERR_INVALID for anything else (it is passed on
 * unchanged, for the resolver to judge). */
enum err_code dns_question_parse(struct slice msg, struct dns_question *ret);
/* Append the answer to `msg`'s question: the addresses of the asked family (none: an empty NOERROR,
 * never NXDOMAIN), TTL in seconds. */
void dns_answer_write(struct buf *out, struct slice msg, const struct dns_question *q,
                      const struct prog_strings *addresses, uint32_t ttl_s);
/* The same question with SERVFAIL. */
void dns_failure_write(struct buf *out, struct slice msg, const struct dns_question *q);
/* The name among `names` (which are ordered); NULL when it is none of them. */
const struct prog_name *dns_name_find(const struct prog_names *names, struct slice host);

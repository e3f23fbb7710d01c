/* SPDX-License-Identifier: Apache-2.0 */
/* module: proxy */
/* A question that was understood is repeated in the answer, so that its answer asks the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/dns_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dns_question q, again;
    struct slice msg = slice_of((const char *)p, n);
    struct slice address = SL("\x0a\0\0\1");
    struct prog_strings list = {.p = &address, .n = 1};
    struct buf out;
    if (dns_question_parse(msg, &q) != ERR_OK)
        return 0;
    if (q.end > n || strlen(q.name) >= DNS_NAME_MAX)
        abort();
    buf_init(&out, 65536);
    dns_answer_write(&out, msg, &q, &list, 30);
    if (buf_len(&out) < q.end)
        abort();
    out.p[2] = 1; /* as a question again */
    out.p[3] = 0;
    out.p[6] = out.p[7] = 0;
    if (dns_question_parse(buf_slice(&out), &again) != ERR_OK || strcmp(q.name, again.name) != 0 ||
        q.type != again.type)
        abort();
    buf_fini(&out);
    return 0;
}

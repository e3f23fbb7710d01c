/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dns_msg.h"

enum { HEADER = 12 };

static uint16_t u16(const char *p)
{
    return (uint16_t)((unsigned char)p[0] << 8 | (unsigned char)p[1]);
}

static void add_u16(struct buf *b, uint16_t v)
{
    char p[2] = {(char)(v >> 8), (char)v};
    buf_add(b, p, 2);
}

enum err_code dns_question_parse(struct slice msg, struct dns_question *ret)
{
    if (msg.len < HEADER + 5)
        return ERR_INVALID;
    ret->id = u16(msg.p);
    ret->flags = u16(msg.p + 2);
    /* QR and opcode 0, one question, no answer or authority; additional records (EDNS) may follow */
    if (ret->flags & 0xf800 || u16(msg.p + 4) != 1 || u16(msg.p + 6) || u16(msg.p + 8))
        return ERR_INVALID;
    size_t at = HEADER, n = 0;
    for (;;) {
        if (at >= msg.len)
            return ERR_INVALID;
        size_t len = (unsigned char)msg.p[at++];
        if (len == 0)
            break;
        if (len > 63 || at + len > msg.len || n + len + 1 >= sizeof ret->name)
            return ERR_INVALID;
        if (n)
            ret->name[n++] = '.';
        for (size_t i = 0; i < len; i++) {
            char c = msg.p[at + i];
            if (c == '.' || c == '\0')
                return ERR_INVALID; /* a label that cannot be a part of our names */
            ret->name[n++] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
        }
        at += len;
    }
    if (at + 4 > msg.len)
        return ERR_INVALID;
    ret->name[n] = '\0';
    ret->type = u16(msg.p + at);
    ret->class_ = u16(msg.p + at + 2);
    ret->end = at + 4;
    return ERR_OK;
}

/* Header and question of an answer; `rcode` and the number of records. */
static void head_write(struct buf *out, struct slice msg, const struct dns_question *q,
                       uint16_t rcode, uint16_t answers)
{
    add_u16(out, q->id);
    /* QR, AA, RD as asked, RA */
    add_u16(out, (uint16_t)(0x8480 | (q->flags & 0x0100) | rcode));
    add_u16(out, 1);
    add_u16(out, answers);
    add_u16(out, 0);
    add_u16(out, 0);
    buf_add(out, msg.p + HEADER, q->end - HEADER);
}

void dns_answer_write(struct buf *out, struct slice msg, const struct dns_question *q,
                      const struct prog_strings *addresses, uint32_t ttl_s)
{
    size_t want = q->class_ != DNS_IN ? 0 : q->type == DNS_A ? 4 : q->type == DNS_AAAA ? 16 : 0;
    uint16_t n = 0;
    for (uint32_t i = 0; want && i < addresses->n && n < 32; i++)
        n += addresses->p[i].len == want;
    head_write(out, msg, q, 0, n);
    for (uint32_t i = 0; n && i < addresses->n; i++) {
        if (addresses->p[i].len != want)
            continue;
        add_u16(out, 0xc000 | HEADER); /* the name of the question (RFC 1035 4.1.4) */
        add_u16(out, q->type);
        add_u16(out, DNS_IN);
        add_u16(out, (uint16_t)(ttl_s >> 16));
        add_u16(out, (uint16_t)ttl_s);
        add_u16(out, (uint16_t)want);
        buf_add_slice(out, addresses->p[i]);
        n--;
    }
}

void dns_failure_write(struct buf *out, struct slice msg, const struct dns_question *q)
{
    head_write(out, msg, q, 2, 0);
}

const struct prog_name *dns_name_find(const struct prog_names *names, struct slice host)
{
    uint32_t lo = 0, hi = names ? names->n_names : 0;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = slice_cmp(names->names[mid].host, host);
        if (c == 0)
            return &names->names[mid];
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

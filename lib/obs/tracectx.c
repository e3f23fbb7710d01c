/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/obs/tracectx.h"

#include <stdio.h>

static int hex_value(char c, bool upper)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (upper && c >= 'A' && c <= 'F')
        c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Exactly 2 * n hex digits. */
static bool bytes(struct slice s, size_t n, bool upper, uint8_t *ret)
{
    if (s.len != 2 * n)
        return false;
    for (size_t i = 0; i < n; i++) {
        int hi = hex_value(s.p[2 * i], upper), lo = hex_value(s.p[2 * i + 1], upper);

        if (hi < 0 || lo < 0)
            return false;
        ret[i] = (uint8_t)(hi * 16 + lo);
    }
    return true;
}

static bool is_zero(const uint8_t *id, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (id[i])
            return false;
    return true;
}

const char *trace_hex(const uint8_t *id, size_t n, char *ret)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        ret[2 * i] = digits[id[i] >> 4];
        ret[2 * i + 1] = digits[id[i] & 15];
    }
    ret[2 * n] = '\0';
    return ret;
}

enum err_code trace_parse_w3c(struct slice s, struct trace_ctx *ret)
{
    struct trace_ctx t = {.decided = true};
    uint8_t version, flags;

    s = slice_trim(s);
    if (s.len < 55 || s.p[2] != '-' || s.p[35] != '-' || s.p[52] != '-')
        return ERR_INVALID;
    if (!bytes(slice_of(s.p, 2), 1, false, &version) || version == 0xff ||
        !bytes(slice_of(s.p + 3, 32), 16, false, t.trace_id) ||
        !bytes(slice_of(s.p + 36, 16), 8, false, t.span_id) ||
        !bytes(slice_of(s.p + 53, 2), 1, false, &flags))
        return ERR_INVALID;
    if (s.len > 55 && (version == 0 || s.p[55] != '-'))
        return ERR_INVALID;
    if (is_zero(t.trace_id, 16) || is_zero(t.span_id, 8))
        return ERR_INVALID;
    t.sampled = flags & 1;
    *ret = t;
    return ERR_OK;
}

const char *trace_format_w3c(const struct trace_ctx *t, char ret[TRACEPARENT_TEXT])
{
    memcpy(ret, "00-", 3);
    trace_hex(t->trace_id, 16, ret + 3);
    ret[35] = '-';
    trace_hex(t->span_id, 8, ret + 36);
    memcpy(ret + 52, t->sampled ? "-01" : "-00", 4);
    return ret;
}

bool tracestate_valid(struct slice s)
{
    struct slice rest = s, member;
    unsigned n = 0;

    if (s.len == 0 || s.len > 512)
        return false;
    while (slice_next(&rest, ',', &member)) {
        member = slice_trim(member);
        if (member.len == 0)
            continue; /* allowed, W3C 3.3.1.1 */
        if (++n > 32 || slice_chr(member, '=') <= 0)
            return false;
        for (size_t i = 0; i < member.len; i++)
            if (member.p[i] < 0x20 || member.p[i] > 0x7e)
                return false;
    }
    return n > 0;
}

static bool decision(struct slice s, struct trace_ctx *t)
{
    if (slice_is(s, "d"))
        t->debug = t->sampled = t->decided = true;
    else if (slice_is(s, "1") || slice_ieq(s, SL("true")))
        t->sampled = t->decided = true;
    else if (slice_is(s, "0") || slice_ieq(s, SL("false")))
        t->decided = true;
    else
        return false;
    return true;
}

/* B3 trace ids have 64 or 128 bits. */
static bool ids(struct slice trace, struct slice span, struct slice parent, struct trace_ctx *t)
{
    bool ok = trace.len == 16 ? bytes(trace, 8, true, t->trace_id + 8)
                              : bytes(trace, 16, true, t->trace_id);

    return ok && bytes(span, 8, true, t->span_id) && !is_zero(t->trace_id, 16) &&
           !is_zero(t->span_id, 8) && (!parent.p || bytes(parent, 8, true, t->parent_id));
}

enum err_code trace_parse_b3(struct slice b3, struct trace_ctx *ret)
{
    struct slice trace, span, sampled = SLICE_NULL, parent = SLICE_NULL;
    struct trace_ctx t = {0};

    b3 = slice_trim(b3);
    if (b3.len == 1) {
        if (!decision(b3, &t))
            return ERR_INVALID;
        *ret = t;
        return ERR_NOT_FOUND;
    }
    if (!slice_next(&b3, '-', &trace) || !slice_next(&b3, '-', &span))
        return ERR_INVALID;
    if (slice_next(&b3, '-', &sampled))
        slice_next(&b3, '-', &parent);
    if (b3.p || (sampled.p && !decision(sampled, &t)) || !ids(trace, span, parent, &t))
        return ERR_INVALID;
    *ret = t;
    return ERR_OK;
}

enum err_code trace_parse_b3_multi(const struct trace_b3_fields *f, struct trace_ctx *ret)
{
    struct trace_ctx t = {0};

    if (f->sampled.p && !decision(f->sampled, &t))
        return ERR_INVALID;
    if (slice_is(f->flags, "1"))
        t.debug = t.sampled = t.decided = true;
    if (!f->trace_id.p && !f->span_id.p) {
        *ret = t;
        return ERR_NOT_FOUND;
    }
    if (!ids(f->trace_id, f->span_id, f->parent_id, &t))
        return ERR_INVALID;
    *ret = t;
    return ERR_OK;
}

const char *trace_format_b3(const struct trace_ctx *t, char ret[TRACE_B3_TEXT])
{
    size_t n = 51;

    trace_hex(t->trace_id, 16, ret);
    ret[32] = '-';
    trace_hex(t->span_id, 8, ret + 33);
    ret[49] = '-';
    ret[50] = t->debug ? 'd' : t->sampled ? '1' : '0';
    if (!is_zero(t->parent_id, 8)) {
        ret[n++] = '-';
        trace_hex(t->parent_id, 8, ret + n);
        n += 16;
    }
    ret[n] = '\0';
    return ret;
}

static void random_id(struct rnd *r, uint8_t *id, size_t n)
{
    do
        for (size_t i = 0; i < n; i += 8) {
            uint64_t v = rnd_u64(r);

            memcpy(id + i, &v, 8);
        }
    while (is_zero(id, n));
}

void trace_new(struct rnd *r, bool sampled, struct trace_ctx *ret)
{
    *ret = (struct trace_ctx){.sampled = sampled, .decided = true};
    random_id(r, ret->trace_id, 16);
    random_id(r, ret->span_id, 8);
}

void trace_child(const struct trace_ctx *of, struct rnd *r, struct trace_ctx *ret)
{
    struct trace_ctx t = *of;

    memcpy(t.parent_id, of->span_id, 8);
    random_id(r, t.span_id, 8);
    *ret = t;
}

const char *request_id_new(struct rnd *r, char ret[REQUEST_ID_TEXT])
{
    static const uint8_t lengths[] = {4, 2, 2, 2, 6};
    uint8_t id[16];
    size_t at = 0, from = 0;

    random_id(r, id, 16);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < sizeof lengths; i++) {
        if (i)
            ret[at++] = '-';
        trace_hex(id + from, lengths[i], ret + at);
        at += 2u * lengths[i];
        from += lengths[i];
    }
    return ret;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The small parts of messages: texts, lists, ranges, matches. */
#include <stdarg.h>
#include <stdio.h>

#include "mesh/wire/decode_int.h"

int dec_bad(struct rd *r, const struct fpath *at, const char *fmt, ...)
{
    char path[128], what[128];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(r->err, ERR_INVALID, "%s: %s", fpath_str(at, path, sizeof path), what);
}

/* The arena has a cap by the payload's size: beyond it the message is refused, not the process. */
int dec_full(struct rd *r)
{
    return err_set(r->err, r->a->cap && r->a->used > r->a->cap / 2 ? ERR_LIMIT : ERR_NOMEM,
                   "decoding takes too much memory");
}

void *dec_many(struct rd *r, size_t n, size_t size, uint32_t *ret_n, int *rc)
{
    void *p = n ? arena_array(r->a, n, size) : NULL;

    *rc = n && !p ? dec_full(r) : 0;
    *ret_n = p ? (uint32_t)n : 0;
    return p;
}
/* --- small parts ------------------------------------------------------------------------------ */
int dec_text(struct rd *r, const char *s, struct slice *ret)
{
    if (!s || !*s) {
        *ret = SLICE_NULL;
        return 0;
    }
    struct slice from = slice_str(s);
    for (unsigned i = 0; i < MIN(r->n_recent, (unsigned)RD_RECENT); i++)
        if (slice_ends(r->recent[i], from)) {
            *ret = slice_skip(r->recent[i], r->recent[i].len - from.len);
            return 0;
        }
    if (r->text) {
        memcpy(r->text, from.p, from.len + 1);
        *ret = slice_of(r->text, from.len);
        r->text += from.len + 1;
    } else {
        *ret = arena_slice(r->a, from);
        if (!ret->p)
            return dec_full(r);
        r->text_taken += arena_takes(from.len + 1);
    }
    r->text_bytes += from.len + 1;
    r->recent[r->n_recent++ % RD_RECENT] = *ret;
    return 0;
}

int dec_bytes(struct rd *r, ProtobufCBinaryData b, struct slice *ret)
{
    if (b.len == 0) {
        *ret = SLICE_NULL;
        return 0;
    }
    *ret = arena_slice(r->a, slice_of_pb(b));
    return ret->p ? 0 : dec_full(r);
}

int dec_texts(struct rd *r, char **v, size_t n, struct prog_strings *ret)
{
    ARRAY(r, ret->p, ret->n, n);
    for (uint32_t i = 0; i < ret->n; i++)
        TRY(dec_text(r, v[i], &ret->p[i]));
    return 0;
}

int dec_strings(struct rd *r, const PB(Strings) * m, struct prog_strings *ret)
{
    return m ? dec_texts(r, m->value, m->n_value, ret) : 0;
}

int dec_cidrs(struct rd *r, const struct fpath *at, char **v, size_t n, struct cidr **ret,
              uint32_t *ret_n)
{
    ARRAY(r, *ret, *ret_n, n);
    for (uint32_t i = 0; i < *ret_n; i++)
        if (!cidr_parse(slice_str(v[i]), &(*ret)[i]))
            return dec_bad(r, &FPATH_INDEX(at, i), "\"%.40s\" is no address range", v[i]);
    return 0;
}

int dec_cidr_strings(struct rd *r, const struct fpath *at, const PB(Strings) * m, struct cidr **ret,
                     uint32_t *ret_n)
{
    return m ? dec_cidrs(r, at, m->value, m->n_value, ret, ret_n) : 0;
}

int dec_port(struct rd *r, const struct fpath *at, uint32_t v, uint16_t *ret)
{
    if (v < 1 || v > 65535)
        return dec_bad(r, at, "%u is no port", v);
    *ret = (uint16_t)v;
    return 0;
}

/* Unknown: detected like any other traffic. */
enum prog_protocol dec_protocol(int v)
{
    return v >= PROG_AUTO && v <= PROG_GRPC ? (enum prog_protocol)v : PROG_AUTO;
}

enum prog_mtls dec_mtls(int v)
{
    return v >= PROG_MTLS_UNSET && v <= PROG_MTLS_STRICT ? (enum prog_mtls)v : PROG_MTLS_STRICT;
}

int dec_regex(struct rd *r, const struct fpath *at, struct slice pattern, struct re **ret)
{
    char path[128];

    r->regexes++;
    return re_compile(pattern, ret, r->err) < 0
               ? err_wrap(r->err, "%s", fpath_str(at, path, sizeof path))
               : 0;
}

int dec_string_match(struct rd *r, const struct fpath *at, const PB(StringMatch) * m,
                     struct prog_string_match *ret)
{
    if (!m)
        return 0;
    TRY(dec_text(r, m->value, &ret->value));
    switch ((int)m->kind) {
    case PB_ENUM(MATCH_KIND__MATCH_EXACT):
        ret->kind = PROG_MATCH_EXACT;
        return 0;
    case PB_ENUM(MATCH_KIND__MATCH_PREFIX):
        ret->kind = PROG_MATCH_PREFIX;
        return 0;
    case PB_ENUM(MATCH_KIND__MATCH_REGEX):
        ret->kind = PROG_MATCH_REGEX;
        return dec_regex(r, at, ret->value, &ret->re);
    case PB_ENUM(MATCH_KIND__MATCH_PRESENT):
        ret->kind = PROG_MATCH_PRESENT;
        return 0;
    default:
        ret->kind = PROG_MATCH_NEVER;
        return 0;
    }
}

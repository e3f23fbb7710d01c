/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/pointer.h"

#include "lib/base/mem.h"

void pointer_add(struct buf *out, struct slice token)
{
    buf_add_char(out, '/');
    for (size_t i = 0; i < token.len; i++) {
        if (token.p[i] == '~')
            buf_add_str(out, "~0");
        else if (token.p[i] == '/')
            buf_add_str(out, "~1");
        else
            buf_add_char(out, token.p[i]);
    }
}

void pointer_add_index(struct buf *out, size_t index)
{
    buf_add_char(out, '/');
    buf_add_u64(out, index);
}

enum err_code pointer_next(struct slice *rest, char *ret, size_t cap, struct slice *ret_token)
{
    struct slice in = *rest;
    size_t n = 0;

    if (in.len == 0)
        return ERR_EOF;
    if (in.p[0] != '/')
        return ERR_INVALID;
    in = slice_skip(in, 1);
    for (; in.len && in.p[0] != '/'; in = slice_skip(in, 1)) {
        char c = in.p[0];

        if (c == '~') { /* RFC 6901 3: only ~0 and ~1 */
            if (in.len < 2 || (in.p[1] != '0' && in.p[1] != '1'))
                return ERR_INVALID;
            in = slice_skip(in, 1);
            c = in.p[0] == '0' ? '~' : '/';
        }
        if (n + 1 >= cap)
            return ERR_LIMIT;
        ret[n++] = c;
    }
    ret[n] = '\0';
    *ret_token = slice_of(ret, n);
    *rest = in;
    return ERR_OK;
}

bool pointer_index(struct slice token, size_t *ret)
{
    uint64_t v;

    if ((token.len > 1 && token.p[0] == '0') || !slice_u64(token, SIZE_MAX / 2, &v))
        return false;
    *ret = (size_t)v;
    return true;
}

json_t *pointer_get(const json_t *doc, struct slice pointer)
{
    CLEANUP(mem_freep) char *scratch = mem_alloc(pointer.len + 1);
    json_t *v = (json_t *)(uintptr_t)doc; /* only read; the caller gets back what it lent */
    struct slice token;
    enum err_code rc;
    size_t i;

    if (!scratch)
        return NULL;
    while (v && (rc = pointer_next(&pointer, scratch, pointer.len + 1, &token)) != ERR_EOF) {
        if (rc != ERR_OK || strlen(scratch) != token.len)
            return NULL;
        if (json_is_array(v))
            v = pointer_index(token, &i) ? json_array_get(v, i) : NULL;
        else
            v = json_object_get(v, scratch);
    }
    return v;
}

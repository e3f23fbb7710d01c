/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/match/request.h"

struct slice match_path_only(struct slice path)
{
    for (size_t i = 0; i < path.len; i++)
        if (path.p[i] == '?' || path.p[i] == '#')
            return slice_head(path, i);
    return path;
}

/* Pseudo fields by their HTTP/2 names; `host` is the authority in every version. */
static bool pseudo(const struct match_request *r, struct slice name, struct slice *ret)
{
    if (slice_eq(name, SL("host")) || slice_eq(name, SL(":authority")))
        *ret = r->authority;
    else if (slice_eq(name, SL(":method")))
        *ret = r->method;
    else if (slice_eq(name, SL(":scheme")))
        *ret = r->scheme;
    else if (slice_eq(name, SL(":path")))
        *ret = r->path;
    else
        return false;
    return true;
}

static struct slice join(const struct match_request *r, struct slice name, size_t len)
{
    char *p = r->arena ? arena_alloc(r->arena, len) : NULL, *to = p;
    bool more = false;

    if (!p)
        return SLICE_NULL;
    for (uint32_t i = 0; i < r->n_fields; i++) {
        if (!slice_eq(r->fields[i].name, name))
            continue;
        if (more)
            *to++ = ',';
        more = true;
        if (r->fields[i].value.len)
            memcpy(to, r->fields[i].value.p, r->fields[i].value.len);
        to += r->fields[i].value.len;
    }
    return slice_of(p, (size_t)(to - p));
}

bool match_field_joined(const struct match_request *r, struct slice name, struct slice *ret,
                        enum err_code *ret_rc)
{
    uint32_t lines = 0, first = 0;
    size_t len = 0;

    *ret_rc = ERR_OK;
    if (pseudo(r, name, ret))
        return ret->p != NULL;
    for (uint32_t i = 0; i < r->n_fields; i++) {
        if (!slice_eq(r->fields[i].name, name))
            continue;
        if (lines++ == 0)
            first = i;
        len += r->fields[i].value.len + 1;
    }
    if (lines == 0)
        return false;
    *ret = lines == 1 ? r->fields[first].value : join(r, name, len);
    if (lines > 1 && !ret->p)
        *ret_rc = ERR_NOMEM;
    return true;
}

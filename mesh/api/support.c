/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/support.h"

#include <string.h>

static const struct support_row rows[] = {
#define K(kind, state, open, instead)
#define S(kind, path, state, unserved, note) {API_##kind, path, SUPPORT_##state, unserved, note},
#include "mesh/api/support.def"
#undef S
#undef K
};

static const struct support_kind kinds[] = {
#define K(kind, state, open, instead) [API_##kind] = {SUPPORT_##state, open, instead},
#define S(kind, path, state, unserved, note)
#include "mesh/api/support.def"
#undef S
#undef K
};

const struct support_kind *support_kind(enum api_kind kind)
{
    return &kinds[kind];
}

const struct support_row *support_rows(size_t *ret_n)
{
    *ret_n = N_OF(rows);
    return rows;
}

const char *support_state_name(enum support_state s)
{
    static const char *const names[] = {"implemented", "partial", "reported"};

    return names[s];
}

const struct support_row *support_find(enum api_kind kind, const char *path)
{
    for (size_t i = 0; i < N_OF(rows); i++)
        if (rows[i].kind == kind && strcmp(rows[i].path, path) == 0)
            return &rows[i];
    return NULL;
}

/* Rows stand in the order of a walk, parents before children: the rows below row `i` follow it at
 * once and begin with its path. */
static bool below(const char *path, const char *top, size_t top_len)
{
    return strncmp(path, top, top_len) == 0 && strchr(".[{", path[top_len]) && path[top_len];
}

/* A window of rows: those of one kind that lie below one path, which is `skip` bytes long. `quiet`:
 * what lies there was reported already; only names that nobody knows are left to tell. */
struct window {
    size_t from, to, skip;
    bool quiet;
};

static bool set(const json_t *v)
{
    if (json_is_object(v))
        return json_object_size(v) > 0;
    if (json_is_array(v))
        return json_array_size(v) > 0;
    return v && !json_is_null(v);
}

static void walk(const json_t *v, const struct fpath *at, struct window w, struct findings *f);

/* The row of member `key` within the window, and the window below it. */
static const struct support_row *row_of(const char *key, struct window w, struct window *ret)
{
    for (size_t i = w.from; i < w.to; i++) {
        const char *path = rows[i].path;
        size_t len = w.skip + 1 + strlen(key);

        if (path[w.skip] != '.' || strcmp(path + w.skip + 1, key) != 0)
            continue;
        *ret = (struct window){i + 1, i + 1, len, w.quiet};
        while (ret->to < w.to && below(rows[ret->to].path, path, len))
            ret->to++;
        return &rows[i];
    }
    return NULL;
}

static void partial(const struct support_row *row, const json_t *v, const struct fpath *at,
                    struct findings *f)
{
    struct slice rest = slice_str(row->unserved), one;
    const char *value = json_string_value(v);

    if (!*row->unserved) {
        findings_add(f, FINDING_PARTIAL, at, "is implemented in part: %s", row->note);
        return;
    }
    while (value && slice_next(&rest, ',', &one))
        if (slice_is(one, value))
            findings_add(f, FINDING_UNSUPPORTED, at, "%s is not implemented; served: %s", value,
                         row->note);
}

static void member(const char *key, const json_t *v, const struct fpath *up, struct window w,
                   struct findings *f)
{
    struct fpath at = FPATH_KEY(up, key);
    struct window inner;
    const struct support_row *row = row_of(key, w, &inner);

    if (!row) {
        findings_add(f, FINDING_SUSPECT, &at, "is no field of this kind: it has no effect");
        return;
    }
    if (!w.quiet && row->state == SUPPORT_REPORTED)
        findings_add(f, FINDING_UNSUPPORTED, &at, "is not implemented%s%s",
                     *row->note ? ": " : " and has no effect", row->note);
    else if (!w.quiet && row->state == SUPPORT_PARTIAL)
        partial(row, v, &at, f);
    inner.quiet |= row->state == SUPPORT_REPORTED;
    if (inner.from < inner.to)
        walk(v, &at, inner, f);
}

static void walk(const json_t *v, const struct fpath *at, struct window w, struct findings *f)
{
    const char *key;
    json_t *item;
    size_t i;
    bool map = rows[w.from].path[w.skip] == '{';

    if (rows[w.from].path[w.skip] == '[') {
        w.skip += 2;
        json_array_foreach(v, i, item)
        {
            struct fpath down = FPATH_INDEX(at, i);
            walk(item, &down, w, f);
        }
        return;
    }
    if (map)
        w.skip += 2;
    json_object_foreach((json_t *)v, key, item)
    {
        struct fpath down = FPATH_KEY(at, key);

        if (map)
            walk(item, &down, w, f);
        else if (set(item))
            member(key, item, at, w, f);
    }
}

void support_check(enum api_kind kind, const json_t *obj, struct findings *f)
{
    struct fpath root = FPATH_ROOT, spec = FPATH_KEY(&root, "spec");
    struct window w = {0, 0, strlen("spec"), kinds[kind].state == SUPPORT_REPORTED};

    while (w.from < N_OF(rows) && rows[w.from].kind != kind)
        w.from++;
    for (w.to = w.from; w.to < N_OF(rows) && rows[w.to].kind == kind;)
        w.to++;
    if (w.from < w.to)
        walk(json_object_get(obj, "spec"), &spec, w, f);
}

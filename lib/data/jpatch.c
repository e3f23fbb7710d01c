/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/jpatch.h"

#include "lib/base/mem.h"

#define MOST_NODES 1000000u /* copies made by one patch: "copy" may double a document */
#define MOST_DEPTH 256u

/* --- building ------------------------------------------------------------------------------------
 */

static int append(json_t *patch, const char *op, const char *pointer, json_t *value, bool needs)
{
    json_t *o;

    json_setup();
    if (needs && !value)
        return -1;
    o = value ? json_pack("{s:s, s:s, s:O}", "op", op, "path", pointer, "value", value)
              : json_pack("{s:s, s:s}", "op", op, "path", pointer);
    json_decref(value);
    return o ? json_array_append_new(patch, o) : -1;
}

int jpatch_add(json_t *patch, const char *pointer, json_t *value)
{
    return append(patch, "add", pointer, value, true);
}

int jpatch_replace(json_t *patch, const char *pointer, json_t *value)
{
    return append(patch, "replace", pointer, value, true);
}

int jpatch_test(json_t *patch, const char *pointer, json_t *value)
{
    return append(patch, "test", pointer, value, true);
}

int jpatch_remove(json_t *patch, const char *pointer)
{
    return append(patch, "remove", pointer, NULL, false);
}

/* --- difference ----------------------------------------------------------------------------------
 */

struct diff {
    json_t *patch;
    struct buf at; /* pointer of what is compared */
};

static int diff_value(struct diff *d, json_t *a, json_t *b);

static int emit(struct diff *d, const char *op, json_t *value)
{
    const char *at = buf_cstr(&d->at);

    if (buf_err(&d->at))
        return -1;
    if (!value)
        return jpatch_remove(d->patch, at);
    return append(d->patch, op, at, json_incref(value), true);
}

static int diff_member(struct diff *d, json_t *a, json_t *b, const char *key)
{
    json_t *x = json_object_get(a, key), *y = json_object_get(b, key);
    size_t mark = buf_len(&d->at);
    int rc;

    pointer_add(&d->at, slice_str(key));
    if (x && y)
        rc = diff_value(d, x, y);
    else
        rc = emit(d, "add", y); /* y NULL: remove */
    buf_truncate(&d->at, mark);
    return rc;
}

static int diff_object(struct diff *d, json_t *a, json_t *b)
{
    CLEANUP(mem_freep) const char **ka = NULL;
    CLEANUP(mem_freep) const char **kb = NULL;
    size_t na = 0, nb = 0, i = 0, j = 0;
    int rc = 0;

    ka = json_sorted_keys(a, &na);
    kb = json_sorted_keys(b, &nb);
    if (!ka || !kb)
        return -1;
    while (rc == 0 && (i < na || j < nb)) {
        int c = i == na ? 1 : j == nb ? -1 : strcmp(ka[i], kb[j]);
        const char *key = c <= 0 ? ka[i] : kb[j];

        i += c <= 0;
        j += c >= 0;
        rc = diff_member(d, a, b, key);
    }
    return rc;
}

static int diff_element(struct diff *d, const char *op, size_t index, json_t *from, json_t *to)
{
    size_t mark = buf_len(&d->at);
    int rc;

    pointer_add_index(&d->at, index);
    rc = from && to ? diff_value(d, from, to) : emit(d, op, to);
    buf_truncate(&d->at, mark);
    return rc;
}

static int diff_array(struct diff *d, json_t *a, json_t *b)
{
    size_t na = json_array_size(a), nb = json_array_size(b), head = 0, tail = 0, both, i;
    int rc = 0;

    while (head < na && head < nb && json_equal(json_array_get(a, head), json_array_get(b, head)))
        head++;
    while (tail < na - head && tail < nb - head &&
           json_equal(json_array_get(a, na - 1 - tail), json_array_get(b, nb - 1 - tail)))
        tail++;
    both = MIN(na, nb) - head - tail;
    for (i = head; rc == 0 && i < head + both; i++)
        rc = diff_element(d, "replace", i, json_array_get(a, i), json_array_get(b, i));
    for (i = na - tail; rc == 0 && i > head + both; i--)
        rc = diff_element(d, "remove", i - 1, json_array_get(a, i - 1), NULL);
    for (i = head + both; rc == 0 && i < nb - tail; i++)
        rc = diff_element(d, "add", i, NULL, json_array_get(b, i));
    return rc;
}

static int diff_value(struct diff *d, json_t *a, json_t *b)
{
    if (a == b)
        return 0;
    if (json_is_object(a) && json_is_object(b))
        return diff_object(d, a, b);
    if (json_is_array(a) && json_is_array(b))
        return diff_array(d, a, b);
    return json_equal(a, b) ? 0 : emit(d, "replace", b);
}

json_t *jpatch_diff(const json_t *before, const json_t *after)
{
    struct diff d;
    int rc = -1;

    json_setup();
    d.patch = json_array();
    buf_init(&d.at, SIZE_MAX / 8);
    if (d.patch) /* neither is changed: jansson's reading calls just lack the const */
        rc = diff_value(&d, (json_t *)(uintptr_t)before, (json_t *)(uintptr_t)after);
    buf_fini(&d.at);
    if (rc < 0) {
        json_decref(d.patch);
        return NULL;
    }
    return d.patch;
}

/* --- applying ------------------------------------------------------------------------------------
 */

struct apply {
    json_t *root; /* owned; every value in it has one holder */
    size_t nodes; /* copied so far */
    char *token;  /* scratch for the last token */
    size_t cap;
    struct err *err;
};

static size_t measure(const json_t *v, unsigned *ret_depth)
{
    json_t *w = (json_t *)(uintptr_t)v;
    unsigned deepest = 0, depth;
    size_t n = 1;

    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++) {
            n += measure(json_array_get(v, i), &depth);
            deepest = MAX(deepest, depth);
        }
    } else if (json_is_object(v)) {
        for (void *it = json_object_iter(w); it; it = json_object_iter_next(w, it)) {
            n += measure(json_object_iter_value(it), &depth);
            deepest = MAX(deepest, depth);
        }
    }
    *ret_depth = deepest + 1;
    return n;
}

/* A private copy that fits below a pointer of `level` tokens. */
static json_t *copy_of(struct apply *a, const json_t *v, size_t level)
{
    unsigned depth;
    json_t *copy;

    a->nodes += measure(v, &depth);
    if (a->nodes > MOST_NODES || depth + level > MOST_DEPTH) {
        err_set(a->err, ERR_LIMIT, "document grows beyond %u values or %u levels", MOST_NODES,
                MOST_DEPTH);
        return NULL;
    }
    copy = json_deep_copy(v);
    if (!copy)
        err_set(a->err, ERR_NOMEM, "copying a value");
    return copy;
}

static size_t levels(struct slice pointer)
{
    size_t n = 0;

    for (size_t i = 0; i < pointer.len; i++)
        n += pointer.p[i] == '/';
    return n;
}

/* The container that holds what `pointer` (not "") names; its last token is in a->token. */
static json_t *container(struct apply *a, struct slice pointer, struct slice *ret_token)
{
    ptrdiff_t slash = slice_rchr(pointer, '/');
    struct slice last = slash < 0 ? SLICE_NULL : slice_skip(pointer, (size_t)slash);
    json_t *v = slash < 0 ? NULL : pointer_get(a->root, slice_head(pointer, (size_t)slash));

    if (pointer.len + 1 > a->cap) {
        char *p = mem_realloc(a->token, pointer.len + 1);

        if (!p) {
            err_set(a->err, ERR_NOMEM, "pointer");
            return NULL;
        }
        a->token = p;
        a->cap = pointer.len + 1;
    }
    if (!v || (!json_is_array(v) && !json_is_object(v)) ||
        pointer_next(&last, a->token, a->cap, ret_token) != ERR_OK) {
        err_set(a->err, ERR_NOT_FOUND, "nothing at \"%.*s\"", SL_FMT(slice_head(pointer, 120)));
        return NULL;
    }
    return v;
}

static int missing(struct apply *a, struct slice pointer)
{
    return err_set(a->err, ERR_NOT_FOUND, "nothing at \"%.*s\"", SL_FMT(slice_head(pointer, 120)));
}

/* Put `value` (taken) at the pointer: inserted into arrays; members are replaced (RFC 6902 4.1). */
static int put(struct apply *a, struct slice pointer, json_t *value)
{
    struct slice token;
    json_t *in;
    size_t i;
    int rc;

    if (!value)
        return -1;
    if (pointer.len == 0) {
        json_decref(a->root);
        a->root = value;
        return 0;
    }
    in = container(a, pointer, &token);
    if (!in) {
        json_decref(value);
        return -1;
    }
    if (json_is_object(in)) {
        rc = json_object_set_new(in, a->token, value);
    } else if (slice_is(token, "-")) {
        rc = json_array_append_new(in, value);
    } else if (pointer_index(token, &i) && i <= json_array_size(in)) {
        rc = json_array_insert_new(in, i, value);
    } else {
        json_decref(value);
        return missing(a, pointer);
    }
    return rc < 0 ? err_set(a->err, ERR_NOMEM, "adding a value") : 0;
}

/* Take away what is at the pointer; *ret (may be NULL) gets it. */
static int cut(struct apply *a, struct slice pointer, json_t **ret)
{
    json_t *in, *v = pointer_get(a->root, pointer);
    struct slice token;
    size_t i;
    int rc;

    if (!v)
        return missing(a, pointer);
    if (pointer.len == 0)
        return err_set(a->err, ERR_INVALID, "the whole document cannot be removed");
    in = container(a, pointer, &token);
    if (!in)
        return -1;
    if (ret)
        *ret = json_incref(v);
    if (json_is_object(in))
        rc = json_object_del(in, a->token);
    else
        rc = pointer_index(token, &i) ? json_array_remove(in, i) : -1;
    if (rc < 0 && ret)
        json_decref(*ret);
    return rc < 0 ? missing(a, pointer) : 0;
}

/* Replace keeps the place of an array's element. */
static int swap(struct apply *a, struct slice pointer, json_t *value)
{
    struct slice token;
    json_t *in;
    size_t i;

    if (!value)
        return -1;
    if (!pointer_get(a->root, pointer)) {
        json_decref(value);
        return missing(a, pointer);
    }
    if (pointer.len == 0)
        return put(a, pointer, value);
    in = container(a, pointer, &token);
    if (!in) {
        json_decref(value);
        return -1;
    }
    if (json_is_object(in))
        return json_object_set_new(in, a->token, value) < 0
                   ? err_set(a->err, ERR_NOMEM, "replacing a value")
                   : 0;
    if (pointer_index(token, &i) && json_array_set_new(in, i, value) == 0)
        return 0;
    return missing(a, pointer);
}

/* Numbers by value (RFC 6902 4.6), else as jansson compares. */
static bool same(const json_t *a, const json_t *b)
{
    json_t *w = (json_t *)(uintptr_t)a;

    if (json_is_number(a) && json_is_number(b))
        return json_equal(a, b) || json_number_value(a) == json_number_value(b);
    if (json_is_array(a) && json_is_array(b)) {
        bool eq = json_array_size(a) == json_array_size(b);

        for (size_t i = 0; eq && i < json_array_size(a); i++)
            eq = same(json_array_get(a, i), json_array_get(b, i));
        return eq;
    }
    if (json_is_object(a) && json_is_object(b)) {
        bool eq = json_object_size(a) == json_object_size(b);

        for (void *it = json_object_iter(w); eq && it; it = json_object_iter_next(w, it)) {
            const json_t *other = json_object_get(b, json_object_iter_key(it));

            eq = other && same(json_object_iter_value(it), other);
        }
        return eq;
    }
    return json_equal(a, b);
}

static int move(struct apply *a, struct slice from, struct slice path)
{
    json_t *v = NULL;
    unsigned depth;

    if (slice_eq(from, path))
        return pointer_get(a->root, from) ? 0 : missing(a, from);
    if (slice_starts(path, from) && path.p[from.len] == '/')
        return err_set(a->err, ERR_INVALID, "a value cannot move into itself"); /* RFC 6902 4.4 */
    if (cut(a, from, &v) < 0)
        return -1;
    measure(v, &depth);
    if (depth + levels(path) > MOST_DEPTH) {
        json_decref(v);
        return err_set(a->err, ERR_LIMIT, "document grows beyond %u levels", MOST_DEPTH);
    }
    return put(a, path, v);
}

static int apply_op(struct apply *a, const struct dec *op)
{
    static const char *const names[] = {"add", "replace", "remove", "test", "move", "copy", NULL};
    struct slice path = SLICE_NULL, from = SLICE_NULL;
    const json_t *value, *source;
    int which = 0;

    if (dec_need(op, "op") < 0 || dec_need(op, "path") < 0 ||
        dec_enum(op, "op", names, &which) < 0 || dec_str(op, "path", &path) < 0)
        return -1;
    value = json_object_get(op->v, "value"); /* null is a value here */
    if ((which == 0 || which == 1 || which == 3) && !value)
        return dec_fail_at(op, "value", ERR_INVALID, "is required");
    if (which >= 4 && (dec_need(op, "from") < 0 || dec_str(op, "from", &from) < 0))
        return -1;
    switch (which) {
    case 0:
        return put(a, path, copy_of(a, value, levels(path)));
    case 1:
        return swap(a, path, copy_of(a, value, levels(path)));
    case 2:
        return cut(a, path, NULL);
    case 3:
        source = pointer_get(a->root, path);
        if (!source)
            return missing(a, path);
        return same(source, value) ? 0
                                   : err_set(a->err, ERR_CONFLICT, "test of \"%.*s\" failed",
                                             SL_FMT(slice_head(path, 120)));
    case 4:
        return move(a, from, path);
    default:
        source = pointer_get(a->root, from);
        return source ? put(a, path, copy_of(a, source, levels(path))) : missing(a, from);
    }
}

int jpatch_apply(const json_t *doc, const json_t *patch, json_t **ret, struct err *err)
{
    struct err local = {0};
    struct apply a = {.err = err ? err : &local};
    struct dec list = dec_root((json_t *)(uintptr_t)patch, &local), op;
    int rc = 0;

    json_setup();
    if (!json_is_array(patch))
        return err_set(err, ERR_INVALID, "a JSON patch must be an array, is %s", json_kind(patch));
    a.root = copy_of(&a, doc, 0);
    if (!a.root)
        return -1;
    for (size_t i = 0; rc == 0 && dec_at(&list, i, &op) > 0; i++) {
        rc = apply_op(&a, &op);
        if (rc < 0) {
            if (local.code != ERR_OK) /* the decoder names the field itself */
                err_set(err, local.code, "%s", local.msg);
            else
                err_wrap(err, "operation %zu", i);
        }
    }
    mem_free(a.token);
    if (rc < 0) {
        json_decref(a.root);
        return -1;
    }
    *ret = a.root;
    return 0;
}

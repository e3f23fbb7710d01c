/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/yaml.h"

#include <yaml.h>

#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/base/vec.h"
#include "lib/data/yaml_int.h"

#define NODES ((size_t)1000000)
#define DEPTH 64u
#define BYTES ((size_t)16 << 20)

struct reader {
    yaml_parser_t parser;
    yaml_event_t ev; /* the current one; deleted before the next */
    bool have_ev;
    struct map anchors; /* name -> json_t, one reference held */
    size_t nodes, max_nodes;
    unsigned depth, max_depth;
    struct err *err;
};

static size_t line_of(const struct reader *r)
{
    return r->ev.start_mark.line + 1;
}

static int fail(struct reader *r, enum err_code code, const char *what)
{
    return err_set(r->err, code, "line %zu: %s", line_of(r), what);
}

static int no_memory(struct reader *r)
{
    return err_set(r->err, ERR_NOMEM, "YAML: out of memory");
}

static int next(struct reader *r)
{
    yaml_parser_t *p = &r->parser;

    if (r->have_ev)
        yaml_event_delete(&r->ev);
    r->have_ev = false;
    if (yaml_parser_parse(p, &r->ev)) {
        r->have_ev = true;
        return 0;
    }
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(r);
    return err_set(r->err, ERR_INVALID, "line %zu: %s%s%s",
                   (p->error == YAML_READER_ERROR ? p->mark.line : p->problem_mark.line) + 1,
                   p->context ? p->context : "", p->context ? ", " : "",
                   p->problem ? p->problem : "not YAML");
}

static void drop_anchors(struct map *m)
{
    for (struct map_entry *e = NULL; (e = map_next(m, e));)
        json_decref(e->value);
    map_fini(m);
}

static int count(struct reader *r, size_t n)
{
    if (n > r->max_nodes - r->nodes)
        return fail(r, ERR_LIMIT, "too many values (aliases are counted expanded)");
    r->nodes += n;
    return 0;
}

/* Values within v, capped: counting stops when the budget is clearly gone. */
static size_t nodes_of(json_t *v, size_t most)
{
    size_t n = 1;

    for (size_t i = 0; i < json_array_size(v) && n <= most; i++)
        n += nodes_of(json_array_get(v, i), most - n);
    if (json_is_object(v))
        for (void *it = json_object_iter(v); it && n <= most; it = json_object_iter_next(v, it))
            n += nodes_of(json_object_iter_value(it), most - n);
    return n;
}

static unsigned depth_of(json_t *v)
{
    unsigned deepest = 0;

    for (size_t i = 0; i < json_array_size(v); i++)
        deepest = MAX(deepest, depth_of(json_array_get(v, i)));
    if (json_is_object(v))
        for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it))
            deepest = MAX(deepest, depth_of(json_object_iter_value(it)));
    return json_is_array(v) || json_is_object(v) ? deepest + 1 : 0;
}

/* A private copy, so that nothing that changes one place changes another. */
static int copy_alias(struct reader *r, json_t *v, json_t **ret)
{
    if (count(r, nodes_of(v, r->max_nodes - r->nodes)) < 0)
        return -1;
    if (r->depth + depth_of(v) > r->max_depth)
        return fail(r, ERR_LIMIT, "nested too deeply");
    *ret = json_deep_copy(v);
    return *ret ? 0 : no_memory(r);
}

static int keep_anchor(struct reader *r, const char *name, json_t *v)
{
    void *old = NULL;

    if (!name[0])
        return 0;
    if (map_put(&r->anchors, slice_str(name), json_incref(v), &old) < 0) {
        json_decref(v);
        return no_memory(r);
    }
    json_decref(old);
    return 0;
}

/* --- scalars ---------------------------------------------------------------------------------- */

enum tag { TAG_NONE, TAG_STR, TAG_CORE, TAG_MAP, TAG_SEQ, TAG_OTHER };

static enum tag tag_of(const yaml_char_t *text)
{
    const char *t = (const char *)text;

    if (!t)
        return TAG_NONE;
    if (strcmp(t, YAML_STR_TAG) == 0 || strcmp(t, "!") == 0)
        return TAG_STR;
    if (strcmp(t, YAML_INT_TAG) == 0 || strcmp(t, YAML_FLOAT_TAG) == 0 ||
        strcmp(t, YAML_BOOL_TAG) == 0 || strcmp(t, YAML_NULL_TAG) == 0)
        return TAG_CORE;
    if (strcmp(t, YAML_MAP_TAG) == 0)
        return TAG_MAP;
    return strcmp(t, YAML_SEQ_TAG) == 0 ? TAG_SEQ : TAG_OTHER;
}

/* Does the resolved kind keep what an explicit tag says? An integer may be a !!float. */
static bool tag_holds(const yaml_char_t *text, enum yaml_scalar kind)
{
    const char *t = (const char *)text;

    if (strcmp(t, YAML_INT_TAG) == 0)
        return kind == YAML_INT;
    if (strcmp(t, YAML_FLOAT_TAG) == 0)
        return kind == YAML_INT || kind == YAML_REAL;
    return strcmp(t, YAML_BOOL_TAG) == 0 ? kind == YAML_BOOL : kind == YAML_NULL;
}

static int scalar_kind(struct reader *r, struct slice *ret_text, enum yaml_scalar *ret,
                       struct yaml_value *ret_value)
{
    const yaml_char_t *t = r->ev.data.scalar.tag;
    bool plain = r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    enum tag tag = tag_of(t);

    *ret_text = slice_of(r->ev.data.scalar.value, r->ev.data.scalar.length);
    *ret = YAML_STR;
    if (slice_chr(*ret_text, '\0') >= 0)
        return fail(r, ERR_INVALID, "NUL in a string");
    if (tag == TAG_OTHER || tag == TAG_MAP || tag == TAG_SEQ)
        return fail(r, ERR_INVALID, "unknown tag on a scalar");
    if (tag == TAG_CORE || (tag == TAG_NONE && plain))
        *ret = yaml_resolve(*ret_text, ret_value);
    if (tag == TAG_CORE && !tag_holds(t, *ret))
        return fail(r, ERR_INVALID, "scalar is not of the kind that its tag names");
    if (*ret == YAML_NOT_JSON)
        return fail(r, ERR_INVALID, "a number that JSON cannot hold");
    return 0;
}

static int scalar(struct reader *r, json_t **ret)
{
    struct yaml_value v = {0};
    enum yaml_scalar kind;
    struct slice text;
    json_t *j = NULL;

    if (scalar_kind(r, &text, &kind, &v) < 0 || count(r, 1) < 0)
        return -1;
    switch (kind) {
    case YAML_NULL:
        j = json_null();
        break;
    case YAML_BOOL:
        j = json_boolean(v.truth);
        break;
    case YAML_INT:
        j = json_integer(v.integer);
        break;
    case YAML_REAL:
        j = json_real(v.real);
        break;
    default:
        j = json_stringn(text.p ? text.p : "", text.len);
    }
    if (!j)
        return no_memory(r);
    if (keep_anchor(r, r->ev.data.scalar.anchor ? (char *)r->ev.data.scalar.anchor : "", j) < 0) {
        json_decref(j);
        return -1;
    }
    *ret = j;
    return 0;
}

/* --- collections ------------------------------------------------------------------------------ */

static int node(struct reader *r, json_t **ret);

static int enter(struct reader *r)
{
    if (r->depth >= r->max_depth)
        return fail(r, ERR_LIMIT, "nested too deeply");
    r->depth++;
    return count(r, 1);
}

static int sequence_items(struct reader *r, json_t *to)
{
    for (;;) {
        json_t *item;

        if (next(r) < 0)
            return -1;
        if (r->ev.type == YAML_SEQUENCE_END_EVENT)
            return 0;
        if (node(r, &item) < 0)
            return -1;
        if (json_array_append_new(to, item) < 0)
            return no_memory(r);
    }
}

/* The text of a key as JSON has it: numbers and booleans in their usual form. *ret_merge: it is the
 * plain scalar `<<`. Heap. */
static char *key_text(struct reader *r, bool *ret_merge)
{
    struct yaml_value v = {0};
    enum yaml_scalar kind;
    struct slice text;
    json_t *number = NULL;
    char *key;

    *ret_merge = false;
    if (r->ev.type != YAML_SCALAR_EVENT) {
        fail(r, ERR_INVALID, "a key must be a scalar");
        return NULL;
    }
    if (r->ev.data.scalar.anchor) {
        fail(r, ERR_INVALID, "an anchor on a key is not supported");
        return NULL;
    }
    if (scalar_kind(r, &text, &kind, &v) < 0)
        return NULL;
    if (kind == YAML_NULL) {
        fail(r, ERR_INVALID, "a key must not be null");
        return NULL;
    }
    *ret_merge = kind == YAML_STR && r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                 slice_is(text, "<<");
    if (kind == YAML_INT || kind == YAML_REAL) {
        number = kind == YAML_INT ? json_integer(v.integer) : json_real(v.real);
        key = number ? json_text(number, JSON_TIGHT) : NULL;
        json_decref(number);
    } else if (kind == YAML_BOOL) {
        key = mem_strdup(v.truth ? "true" : "false");
    } else {
        key = mem_strndup(text.p, text.len);
    }
    if (!key)
        no_memory(r);
    return key;
}

static int merge_one(struct reader *r, json_t *to, json_t *from)
{
    if (!json_is_object(from))
        return fail(r, ERR_INVALID, "a merge key needs a mapping or a list of mappings");
    for (void *it = json_object_iter(from); it; it = json_object_iter_next(from, it)) {
        const char *key = json_object_iter_key(it);
        json_t *copy;

        if (json_object_get(to, key))
            continue; /* keys of the mapping itself, and earlier merges, win */
        if (copy_alias(r, json_object_iter_value(it), &copy) < 0)
            return -1;
        if (json_object_set_new(to, key, copy) < 0)
            return no_memory(r);
    }
    return 0;
}

static int merge(struct reader *r, json_t *to, json_t *from)
{
    if (!json_is_array(from))
        return merge_one(r, to, from);
    for (size_t i = 0; i < json_array_size(from); i++)
        if (merge_one(r, to, json_array_get(from, i)) < 0)
            return -1;
    return 0;
}

static int mapping_items(struct reader *r, json_t *to, json_t **merged)
{
    for (;;) {
        CLEANUP(mem_freep) char *key = NULL;
        json_t *value;
        bool is_merge;

        if (next(r) < 0)
            return -1;
        if (r->ev.type == YAML_MAPPING_END_EVENT)
            return *merged ? merge(r, to, *merged) : 0;
        key = key_text(r, &is_merge);
        if (!key)
            return -1;
        if (is_merge ? *merged != NULL : json_object_get(to, key) != NULL)
            return err_set(r->err, ERR_INVALID, "line %zu: duplicate key \"%.100s\"", line_of(r),
                           key);
        if (next(r) < 0 || node(r, &value) < 0)
            return -1;
        if (is_merge)
            *merged = value;
        else if (json_object_set_new(to, key, value) < 0)
            return no_memory(r);
    }
}

static int collection(struct reader *r, bool is_map, json_t **ret)
{
    const yaml_char_t *anchor =
        is_map ? r->ev.data.mapping_start.anchor : r->ev.data.sequence_start.anchor;
    enum tag tag = tag_of(is_map ? r->ev.data.mapping_start.tag : r->ev.data.sequence_start.tag);
    CLEANUP(mem_freep) char *name = anchor ? mem_strdup((const char *)anchor) : NULL;
    CLEANUP(json_freep) json_t *v = NULL;
    CLEANUP(json_freep) json_t *merged = NULL;

    if (tag != TAG_NONE && tag != (is_map ? TAG_MAP : TAG_SEQ))
        return fail(r, ERR_INVALID, "unknown tag on a collection");
    if (anchor && !name)
        return no_memory(r);
    if (enter(r) < 0)
        return -1;
    v = is_map ? json_object() : json_array();
    if (!v)
        return no_memory(r);
    if ((is_map ? mapping_items(r, v, &merged) : sequence_items(r, v)) < 0)
        return -1;
    r->depth--;
    if (name && keep_anchor(r, name, v) < 0)
        return -1;
    *ret = TAKE(v);
    return 0;
}

/* The node that begins with the current event. */
static int node(struct reader *r, json_t **ret)
{
    json_t *target;

    switch (r->ev.type) {
    case YAML_SCALAR_EVENT:
        return scalar(r, ret);
    case YAML_SEQUENCE_START_EVENT:
        return collection(r, false, ret);
    case YAML_MAPPING_START_EVENT:
        return collection(r, true, ret);
    case YAML_ALIAS_EVENT:
        /* An anchor counts once its node is complete, so that no value can hold itself. */
        target = map_get(&r->anchors, slice_str((const char *)r->ev.data.alias.anchor));
        if (!target)
            return fail(r, ERR_INVALID, "alias of an unknown anchor");
        return copy_alias(r, target, ret);
    default:
        return fail(r, ERR_INVALID, "not a value");
    }
}

/* --- documents -------------------------------------------------------------------------------- */

static int document(struct reader *r, struct yaml_docs *to)
{
    json_t *v = NULL;
    bool empty;
    size_t line;
    VEC(struct yaml_doc) list = {to->p, to->len, to->cap};
    struct yaml_doc *d;

    if (next(r) < 0)
        return -1;
    line = line_of(r);
    empty = r->ev.type == YAML_SCALAR_EVENT && r->ev.data.scalar.length == 0 &&
            r->ev.data.scalar.style == YAML_PLAIN_SCALAR_STYLE && !r->ev.data.scalar.tag;
    if (node(r, &v) < 0)
        return -1;
    drop_anchors(&r->anchors);
    if (empty) {
        json_decref(v);
    } else {
        d = VEC_PUSH(&list);
        to->p = list.p;
        to->len = list.len;
        to->cap = list.cap;
        if (!d) {
            json_decref(v);
            return no_memory(r);
        }
        *d = (struct yaml_doc){v, line};
    }
    return next(r); /* the document's end */
}

static int stream(struct reader *r, struct yaml_docs *to)
{
    for (;;) {
        if (next(r) < 0)
            return -1;
        if (r->ev.type == YAML_STREAM_END_EVENT)
            return 0;
        if (r->ev.type == YAML_DOCUMENT_START_EVENT && document(r, to) < 0)
            return -1;
    }
}

void yaml_docs_fini(struct yaml_docs *docs)
{
    for (size_t i = 0; i < docs->len; i++)
        json_decref(docs->p[i].value);
    mem_free(docs->p);
    *docs = (struct yaml_docs){0};
}

int yaml_parse(struct slice text, const struct yaml_limits *limits, struct yaml_docs *ret,
               struct err *err)
{
    struct reader r = {
        .max_nodes = limits && limits->nodes ? limits->nodes : NODES,
        .max_depth = limits && limits->depth ? limits->depth : DEPTH,
        .err = err,
    };
    struct yaml_docs docs = {0};
    int rc;

    json_setup();
    if (text.len > (limits && limits->bytes ? limits->bytes : BYTES))
        return err_set(err, ERR_LIMIT, "YAML text of %zu bytes is too long", text.len);
    if (!yaml_parser_initialize(&r.parser))
        return no_memory(&r);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.p ? text.p : ""),
                                 text.len);
    rc = stream(&r, &docs);
    if (r.have_ev)
        yaml_event_delete(&r.ev);
    drop_anchors(&r.anchors);
    yaml_parser_delete(&r.parser);
    if (rc < 0) {
        yaml_docs_fini(&docs);
        return -1;
    }
    *ret = docs;
    return 0;
}

int yaml_parse_one(struct slice text, const struct yaml_limits *limits, json_t **ret,
                   struct err *err)
{
    CLEANUP(yaml_docs_fini) struct yaml_docs docs = {0};

    if (yaml_parse(text, limits, &docs, err) < 0)
        return -1;
    if (docs.len > 1)
        return err_set(err, ERR_INVALID, "line %zu: a second document where one is expected",
                       docs.p[1].line);
    *ret = docs.len ? json_incref(docs.p[0].value) : json_null();
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/stream.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/data/json.h"
#include "lib/kube/kube_int.h"
#include "lib/kube/resource.h"

json_t *kube_json(struct slice text, struct err *err)
{
    json_error_t e;
    json_setup();
    /* NUL inside a string is legal JSON and legal in an annotation: one such object must not stop a
     * whole watch, so it is let in (C readers see the string end there). */
    json_t *v = json_loadb(text.p ? text.p : "", text.len,
                           JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &e);
    if (!v)
        err_set(err, json_error_code(&e) == json_error_out_of_memory ? ERR_NOMEM : ERR_PROTO,
                "JSON at byte %d: %s", e.position, e.text);
    return v;
}

/* --- watch streams ------------------------------------------------------------------------------
 */
void kube_lines_init(struct kube_lines *l, size_t max_line)
{
    buf_init(&l->buf, max_line);
}

void kube_lines_fini(struct kube_lines *l)
{
    buf_fini(&l->buf);
}

static int line_out(struct slice line, int (*cb)(void *, struct slice), void *user)
{
    if (line.len && line.p[line.len - 1] == '\r')
        line.len--;
    return line.len ? cb(user, line) : 0;
}

enum err_code kube_lines_feed(struct kube_lines *l, struct slice bytes,
                              int (*line)(void *user, struct slice line), void *user)
{
    size_t max = l->buf.max;
    while (bytes.len) {
        const char *nl = memchr(bytes.p, '\n', bytes.len);
        size_t n = nl ? (size_t)(nl - bytes.p) : bytes.len;
        if (buf_len(&l->buf) + n > max)
            return ERR_LIMIT;
        if (!nl || buf_len(&l->buf)) {
            buf_add(&l->buf, bytes.p, n);
            if (buf_err(&l->buf))
                return buf_err(&l->buf);
        }
        if (!nl)
            return ERR_OK;
        int rc;
        if (buf_len(&l->buf)) {
            rc = line_out(buf_slice(&l->buf), line, user);
            buf_reset(&l->buf);
        } else {
            rc = line_out(slice_head(bytes, n), line, user); /* whole in this piece: no copy */
        }
        if (rc)
            return ERR_CLOSED;
        bytes = slice_skip(bytes, n + 1);
    }
    return ERR_OK;
}

int kube_event_decode(struct slice line, struct kube_event *ret, struct err *err)
{
    static const struct {
        const char *name;
        enum kube_event_type type;
    } types[] = {
        {"ADDED", KUBE_ADDED},       {"MODIFIED", KUBE_MODIFIED}, {"DELETED", KUBE_DELETED},
        {"BOOKMARK", KUBE_BOOKMARK}, {"ERROR", KUBE_ERROR},
    };
    json_t *top = kube_json(line, err);
    if (!top)
        return err_wrap(err, "watch event");
    const char *type = json_string_value(json_object_get(top, "type"));
    json_t *obj = json_object_get(top, "object");
    size_t i = 0;
    while (type && i < N_OF(types) && strcmp(types[i].name, type) != 0)
        i++;
    if (!type || i == N_OF(types) || !json_is_object(obj)) {
        json_decref(top);
        return err_set(err, ERR_PROTO, "watch event without a known type and an object");
    }
    struct kube_event ev = {.type = types[i].type, .object = json_incref(obj)};
    json_decref(top);
    ev.rv = kube_meta(obj, "resourceVersion");
    ev.reason = "";
    if (ev.type == KUBE_BOOKMARK) {
        const json_t *notes = json_object_get(json_object_get(obj, "metadata"), "annotations");
        const char *end = json_string_value(json_object_get(notes, "k8s.io/initial-events-end"));
        ev.initial_end = end && strcmp(end, "true") == 0;
    } else if (ev.type == KUBE_ERROR) {
        const char *reason = json_string_value(json_object_get(obj, "reason"));
        ev.status = (int)json_integer_value(json_object_get(obj, "code"));
        ev.reason = reason ? reason : "";
    }
    *ret = ev;
    return 0;
}

/* --- lists ------------------------------------------------------------------------------------ */
/* The cutter knows strings and brackets and nothing else of JSON; each piece is parsed afterwards
 * by the real parser, so that a text which fools the cutter fails there. */
enum {
    SHELL,    /* outside of "items" */
    KEY,      /* just after a string at depth 1 that reads "items": a ':' makes it the key */
    OPEN,     /* after the ':' of "items": a '[' opens the array */
    ELEMENTS, /* between elements */
    ITEM,     /* inside an element */
    AFTER,    /* the array was closed; a second one is not cut */
};

void kube_items_init(struct kube_items *it, size_t max_item)
{
    memset(it, 0, sizeof *it);
    buf_init(&it->shell, 64 * 1024);
    buf_init(&it->item, max_item);
}

void kube_items_fini(struct kube_items *it)
{
    buf_fini(&it->shell);
    buf_fini(&it->item);
}

/* One byte inside a string; true when the string ended with it. */
static bool string_byte(struct kube_items *it, char c)
{
    if (it->escaped)
        it->escaped = 0;
    else if (c == '\\')
        it->escaped = 1;
    else if (c == '"') {
        it->in_string = 0;
        return true;
    }
    return false;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void shell_byte(struct kube_items *it, char c)
{
    bool kept = it->state == AFTER;
    buf_add_char(&it->shell, c);
    if (it->in_string) {
        if (string_byte(it, c) && it->depth == 1 && !kept) {
            struct slice s = slice_skip(buf_slice(&it->shell), it->key_at);
            if (slice_is(s, "\"items\""))
                it->state = KEY;
        }
        return;
    }
    if (is_blank(c))
        return;
    if (it->state == KEY)
        it->state = c == ':' ? OPEN : SHELL;
    else if (it->state == OPEN) {
        it->state = c == '[' ? ELEMENTS : SHELL;
        if (c == '[')
            return; /* the shell keeps "items": [ ... ] as an empty array */
    }
    if (c == '"') {
        it->in_string = 1;
        it->key_at = buf_len(&it->shell) - 1;
    } else if (c == '{' || c == '[') {
        it->depth++;
    } else if (c == '}' || c == ']') {
        it->depth -= it->depth > 0;
    }
}

enum err_code kube_items_feed(struct kube_items *it, struct slice bytes,
                              int (*item)(void *user, struct slice text), void *user)
{
    size_t max = it->item.max;
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.p[i];
        if (it->state == ELEMENTS) {
            if (is_blank(c) || c == ',')
                continue;
            if (c == ']') {
                buf_add_char(&it->shell, c);
                it->state = AFTER;
                continue;
            }
            if (c != '{')
                return ERR_PROTO;
            it->state = ITEM;
            it->depth = 1; /* now counts inside the element */
            buf_add_char(&it->item, c);
        } else if (it->state == ITEM) {
            if (buf_len(&it->item) >= max)
                return ERR_LIMIT;
            buf_add_char(&it->item, c);
            if (it->in_string) {
                string_byte(it, c);
            } else if (c == '"') {
                it->in_string = 1;
            } else if (c == '{' || c == '[') {
                it->depth++;
            } else if ((c == '}' || c == ']') && --it->depth == 0) {
                if (buf_err(&it->item))
                    return buf_err(&it->item);
                it->state = ELEMENTS;
                it->depth = 1; /* back at the list's own depth */
                if (item(user, buf_slice(&it->item)))
                    return ERR_CLOSED;
                buf_reset(&it->item);
            }
        } else {
            shell_byte(it, c);
            if (buf_err(&it->shell))
                return buf_err(&it->shell);
        }
    }
    return ERR_OK;
}

int kube_items_end(struct kube_items *it, char **ret_rv, char **ret_continue, struct err *err)
{
    if (it->state == ELEMENTS || it->state == ITEM || it->in_string || it->depth)
        return err_set(err, ERR_PROTO, "list ended in the middle");
    json_t *top = kube_json(buf_slice(&it->shell), err);
    if (!top)
        return err_wrap(err, "list");
    const json_t *meta = json_object_get(top, "metadata");
    const char *rv = json_string_value(json_object_get(meta, "resourceVersion"));
    const char *more = json_string_value(json_object_get(meta, "continue"));
    int rc = 0;
    if (json_array_size(json_object_get(top, "items"))) {
        rc = err_set(err, ERR_PROTO, "list whose items are spelled in a way that was not cut");
    } else if (!rv || !*rv) {
        rc = err_set(err, ERR_PROTO, "list without metadata.resourceVersion");
    } else {
        char *rv_copy = mem_strdup(rv), *more_copy = mem_strdup(more ? more : "");
        if (rv_copy && more_copy) {
            *ret_rv = rv_copy;
            *ret_continue = more_copy;
        } else {
            mem_free(rv_copy);
            mem_free(more_copy);
            rc = err_set(err, ERR_NOMEM, "list");
        }
    }
    json_decref(top);
    return rc;
}

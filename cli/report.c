/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void report_fini(struct report *r)
{
    arena_fini(&r->arena);
    *r = (struct report){0};
}

void report_section(struct report *r, const char *name)
{
    r->section = name;
}

static struct check_line *add(struct report *r)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 32;
        struct check_line *p = ARENA_ARRAY(&r->arena, struct check_line, cap);
        if (!p) {
            r->nomem = true;
            return NULL;
        }
        if (r->n)
            memcpy(p, r->p, r->n * sizeof *p);
        r->p = p;
        r->cap = cap;
    }
    return &r->p[r->n++];
}

void report_ok(struct report *r, const char *what)
{
    struct check_line *l = add(r);
    if (l)
        *l = (struct check_line){r->section, what, CHECK_OK, "", ""};
}

void report_bad(struct report *r, enum check_result result, const char *what, const char *hint,
                const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *detail = arena_strdup(&r->arena, text);
    struct check_line *l = add(r);
    if (!detail)
        r->nomem = true;
    if (l)
        *l = (struct check_line){r->section, what, result, detail ? detail : "", hint};
}

static size_t count(const struct report *r, enum check_result result)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++)
        n += r->p[i].result == result;
    return n;
}

bool report_success(const struct report *r)
{
    return r->n && !r->nomem && count(r, CHECK_FAIL) == 0;
}

void report_text(const struct report *r, struct buf *out)
{
    static const char *const marks[] = {"\u221a", "\u203c", "\u00d7"};
    for (size_t i = 0; i < r->n; i++) {
        const struct check_line *l = &r->p[i];
        if (i == 0 || strcmp(l->section, r->p[i - 1].section) != 0) {
            buf_addf(out, "%s%s\n", i ? "\n" : "", l->section);
            for (size_t k = strlen(l->section); k; k--)
                buf_add_char(out, '-');
            buf_add_char(out, '\n');
        }
        buf_addf(out, "%s %s\n", marks[l->result], l->what);
        if (*l->detail)
            buf_addf(out, "    %s\n", l->detail);
        if (*l->hint)
            buf_addf(out, "    hint: %s\n", l->hint);
    }
    if (r->nomem)
        buf_add_str(out, "\nOut of memory: lines are missing.\n");
    buf_addf(out, "\n%zu checks: %zu failed, %zu warnings. The result is %s\n", r->n,
             count(r, CHECK_FAIL), count(r, CHECK_WARN), report_success(r) ? marks[0] : marks[2]);
}

json_t *report_json(const struct report *r)
{
    static const char *const names[] = {"success", "warning", "error"};
    json_t *root = json_pack("{s:b, s:[]}", "success", report_success(r), "categories");
    json_t *checks = NULL;
    for (size_t i = 0; root && i < r->n; i++) {
        const struct check_line *l = &r->p[i];
        json_t *one = json_pack("{s:s, s:s}", "description", l->what, "result", names[l->result]);
        if (i == 0 || strcmp(l->section, r->p[i - 1].section) != 0) {
            checks = json_array();
            if (json_array_append_new(
                    json_object_get(root, "categories"),
                    json_pack("{s:s, s:o}", "categoryName", l->section, "checks", checks)) < 0)
                goto fail;
        }
        if (*l->detail)
            json_object_set_new(one, "error", json_string(l->detail));
        if (*l->hint)
            json_object_set_new(one, "hint", json_string(l->hint));
        if (json_array_append_new(checks, one) < 0)
            goto fail;
    }
    return root;
fail:
    json_decref(root);
    return NULL;
}

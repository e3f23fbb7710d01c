/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/findings.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    const char *name, *code, *reason;
    enum finding_severity severity;
    enum finding_condition condition;
} kinds[] = {
#define X(kind, name, severity, code, condition, reason, meaning)                                        \
    {name, code, reason, FINDING_##severity, FINDING_COND_##condition},
    FINDING_KINDS(X)
#undef X
};

void findings_init(struct findings *f, struct arena *a)
{
    f->arena = a;
    f->n = f->dropped = 0;
    f->nomem = false;
}

/* Room for one more: a free place, or that of something less severe than an error. */
static struct finding *room(struct findings *f, enum finding_severity severity)
{
    if (f->n < FINDINGS_MAX)
        return &f->p[f->n++];
    f->dropped++;
    if (severity == FINDING_ERROR)
        for (uint32_t i = f->n; i-- > 0;)
            if (f->p[i].severity != FINDING_ERROR)
                return &f->p[i];
    return NULL;
}

__attribute__((format(printf, 4, 0))) static void add(struct findings *f, enum finding_kind kind,
                                                      const char *path, const char *fmt, va_list ap)
{
    struct finding *x = room(f, kinds[kind].severity);
    char text[512];

    if (!x)
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    x->kind = kind;
    x->severity = kinds[kind].severity;
    x->path = arena_slice(f->arena, slice_str(path));
    x->text = arena_slice(f->arena, slice_str(text));
    if (!x->path.p || !x->text.p)
        f->nomem = true;
}

void findings_add(struct findings *f, enum finding_kind kind, const struct fpath *path,
                  const char *fmt, ...)
{
    char where[256] = "";
    va_list ap;

    if (!f)
        return;
    if (path)
        fpath_str(path, where, sizeof where);
    va_start(ap, fmt);
    add(f, kind, where, fmt, ap);
    va_end(ap);
}

void findings_add_at(struct findings *f, enum finding_kind kind, const char *path, const char *fmt,
                     ...)
{
    va_list ap;

    if (!f)
        return;
    va_start(ap, fmt);
    add(f, kind, path ? path : "", fmt, ap);
    va_end(ap);
}

const struct finding *findings_first(const struct findings *f, enum finding_severity severity)
{
    for (uint32_t i = 0; f && i < f->n; i++)
        if (f->p[i].severity == severity)
            return &f->p[i];
    return NULL;
}

bool findings_has(const struct findings *f, enum finding_severity severity)
{
    return findings_first(f, severity) != NULL;
}

bool findings_has_kind(const struct findings *f, enum finding_kind kind)
{
    for (uint32_t i = 0; f && i < f->n; i++)
        if (f->p[i].kind == kind)
            return true;
    return false;
}

const char *finding_code(enum finding_kind kind)
{
    return kinds[kind].code;
}
const char *finding_reason(enum finding_kind kind)
{
    return kinds[kind].reason;
}
const char *finding_name(enum finding_kind kind)
{
    return kinds[kind].name;
}
enum finding_condition finding_cond(enum finding_kind kind)
{
    return kinds[kind].condition;
}

const char *finding_severity_name(enum finding_severity severity)
{
    static const char *const names[] = {"error", "warning", "info"};

    return names[severity];
}

void finding_text(const struct finding *f, struct slice kind, struct slice ns, struct slice name,
                  struct buf *out)
{
    buf_add_slice(out, kind);
    buf_add_char(out, ' ');
    if (ns.len) {
        buf_add_slice(out, ns);
        buf_add_char(out, '/');
    }
    buf_add_slice(out, name);
    buf_add_str(out, ": ");
    if (f->path.len) {
        buf_add_slice(out, f->path);
        buf_add_str(out, ": ");
    }
    buf_add_slice(out, f->text);
}

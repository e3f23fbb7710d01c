/* SPDX-License-Identifier: Apache-2.0 */
/* Objects as YAML text and findings as text, for the tables of these tests. */
#pragma once

#include <stdio.h>

#include "lib/data/json.h"
#include "lib/data/yaml.h"
#include "mesh/api/kinds.h"
#include "tests/unit/tcase.h"

/* `text` is a whole object, or the spec of a `kind` named "x" in namespace "ns". */
static inline json_t *object_of(const char *kind, const char *text)
{
    struct err err = {0};
    struct buf b;
    json_t *ret = NULL;

    json_setup();
    buf_init(&b, 1 << 20);
    if (kind)
        buf_addf(&b, "{kind: %s, metadata: {name: x, namespace: ns}, spec: ", kind);
    buf_add_str(&b, text);
    if (kind)
        buf_add_str(&b, "}");
    ck_assert_msg(yaml_parse_one(buf_slice(&b), NULL, &ret, &err) == 0, "%s: %s", err.msg, text);
    buf_fini(&b);
    return ret;
}

/* "error spec.hosts: must ...|warning ...": one line, in order; infos are left out. */
static inline const char *findings_line(const struct findings *f, struct buf *out)
{
    for (uint32_t i = 0; i < f->n; i++) {
        const struct finding *x = &f->p[i];

        if (x->severity == FINDING_INFO)
            continue;
        buf_addf(out, "%s%s %.*s: %.*s", buf_len(out) ? "|" : "", finding_name(x->kind),
                 SL_FMT(x->path), SL_FMT(x->text));
    }
    return buf_cstr(out);
}

struct check_case {
    const char *name, *spec;
    const char *want; /* part of the line; "" when nothing may be found */
};

/* decode + validate + support table of one spec. */
static inline void check_one(enum api_kind kind, const struct check_case *c)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct buf line;
    json_t *obj = object_of(api_kind_info(kind)->kind, c->spec);

    findings_init(&f, &a);
    buf_init(&line, 1 << 16);
    ck_assert_msg(api_check(kind, obj, &a, &f) == 0, "%s", c->name);
    findings_line(&f, &line);
    if (*c->want)
        ck_assert_msg(strstr(buf_cstr(&line), c->want) != NULL, "%s: want \"%s\" in \"%s\"",
                      c->name, c->want, buf_cstr(&line));
    else
        ck_assert_msg(buf_len(&line) == 0, "%s: found \"%s\"", c->name, buf_cstr(&line));
    buf_fini(&line);
    arena_fini(&a);
    json_decref(obj);
}

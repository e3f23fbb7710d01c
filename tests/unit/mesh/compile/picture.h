/* SPDX-License-Identifier: Apache-2.0 */
/* Test help: an index from YAML text. */
#pragma once

#include <check.h>
#include <stdio.h>

#include "lib/data/yaml.h"
#include "mesh/compile/compile.h"

static inline void picture_put(struct index *x, const struct yaml_docs *docs, size_t i)
{
    struct err err = {0};
    enum index_kind kind;

    ck_assert_msg(index_kind_of(docs->p[i].value, &kind), "document %zu is of no known kind", i);
    ck_assert_msg(index_put(x, kind, docs->p[i].value, NULL, &err) == 0, "%s", err.msg);
}

static inline void picture_docs(struct slice yaml, struct yaml_docs *docs)
{
    struct err err = {0};

    ck_assert_msg(yaml_parse(yaml, NULL, docs, &err) == 0, "%s", err.msg);
}

UNUSED static struct index *picture(const char *yaml)
{
    struct yaml_docs docs = {0};
    struct index *x = index_new();

    ck_assert_ptr_nonnull(x);
    picture_docs(slice_str(yaml), &docs);
    for (size_t i = 0; i < docs.len; i++)
        picture_put(x, &docs, i);
    yaml_docs_fini(&docs);
    return x;
}

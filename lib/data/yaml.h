/* SPDX-License-Identifier: Apache-2.0 */
/* YAML on libyaml's events, as values of jansson. Plain scalars are read as Kubernetes' tools do
 * (sigs.k8s.io/yaml, which is YAML 1.1): null ~, true false yes no on off (y and n stay strings),
 * integers (decimal, 0x, 0o, 0b, leading 0 octal), reals; quoted and block scalars are strings.
 * Keys become strings. Aliases are expanded within the node budget; duplicate keys are refused;
 * merge keys (`<<`) are followed; explicit tags other than !!str !!int !!float !!bool !!null !!map
 * !!seq are refused. */
#pragma once

#include "lib/data/json.h"

struct yaml_limits {
    size_t nodes;   /* values made in all documents, aliases expanded; 0: 1,000,000 */
    unsigned depth; /* 0: 64 */
    size_t bytes;   /* 0: 16 MiB */
};
struct yaml_doc {
    json_t *value; /* owned by the list */
    size_t line;   /* of the document's first token, from 1 */
};
struct yaml_docs {
    struct yaml_doc *p;
    size_t len, cap;
};

/* All documents in order; empty ones (only comments) are left out. Errors name the line. */
int yaml_parse(struct slice text, const struct yaml_limits *limits, struct yaml_docs *ret,
               struct err *err);
void yaml_docs_fini(struct yaml_docs *docs); /* for CLEANUP too */
/* The one document of a text (null when it is empty); more than one is an error. */
int yaml_parse_one(struct slice text, const struct yaml_limits *limits, json_t **ret,
                   struct err *err);
/* Block style, keys in byte order, strings quoted only where they would read as something else;
 * yaml_parse gives the same value back. No "---". */
void yaml_write(const json_t *v, struct buf *out);

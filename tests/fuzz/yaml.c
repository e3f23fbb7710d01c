/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/data */
/* What is read as YAML and written as YAML reads as the same value; values stay within the limits.
 */
#include <stdlib.h>

#include "lib/data/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const struct yaml_limits small = {.nodes = 20000, .depth = 32};
    CLEANUP(yaml_docs_fini) struct yaml_docs docs = {0};
    struct err err = {0};

    if (yaml_parse(slice_of(p, n), &small, &docs, &err) < 0) {
        if (err.code != ERR_INVALID && err.code != ERR_LIMIT)
            abort();
        return 0;
    }
    for (size_t i = 0; i < docs.len; i++) {
        CLEANUP(json_freep) json_t *again = NULL;
        CLEANUP(buf_freep) struct buf b;

        if (i && docs.p[i].line < docs.p[i - 1].line)
            abort();
        buf_init(&b, SIZE_MAX / 8);
        yaml_write(docs.p[i].value, &b);
        if (buf_err(&b) || yaml_parse_one(buf_slice(&b), NULL, &again, &err) < 0 ||
            !json_equal(docs.p[i].value, again))
            abort();
    }
    return 0;
}

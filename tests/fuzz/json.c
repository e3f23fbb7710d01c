/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/data */
/* What is read, written and read again is the same value, and its text is stable; the reader takes
 * and refuses the same texts as jansson's, to the same values. */
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/data/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void compare_with_jansson(const uint8_t *p, size_t n, json_t *v)
{
    json_error_t je;
    json_t *other;

    if (n && memchr(p, 0, n))
        return; /* jansson overlooks a NUL between tokens */
    other = json_loadb((const char *)p, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);

    if ((v == NULL) != (other == NULL) || (v && !json_equal(v, other)))
        abort();
    json_decref(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(json_freep) json_t *v = NULL;
    CLEANUP(json_freep) json_t *again = NULL;
    CLEANUP(mem_freep) char *tight = NULL;
    CLEANUP(mem_freep) char *pretty = NULL;
    CLEANUP(mem_freep) char *second = NULL;
    struct err err = {0};

    if (json_parse(slice_of(p, n), NULL, &v, &err) < 0) {
        if (err.code != ERR_INVALID && err.code != ERR_LIMIT)
            abort();
        if (err.code == ERR_INVALID)
            compare_with_jansson(p, n, NULL);
        return 0;
    }
    compare_with_jansson(p, n, v);
    tight = json_text(v, JSON_TIGHT);
    pretty = json_text(v, JSON_PRETTY);
    if (!tight || !pretty || json_parse(slice_str(pretty), NULL, &again, &err) < 0 ||
        !json_equal(v, again))
        abort();
    second = json_text(again, JSON_TIGHT);
    if (!second || strcmp(tight, second) != 0)
        abort();
    return 0;
}

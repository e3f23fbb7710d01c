/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/data/fieldpath.h"

#include <stdbool.h>
#include <stdio.h>

static bool plain_word(const char *key)
{
    for (const char *p = key; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
              *p == '_' || *p == '-' || *p == '$'))
            return false;
    return key[0] != '\0';
}

void fpath_text(const struct fpath *path, struct buf *out)
{
    if (path->up)
        fpath_text(path->up, out);
    if (!path->key) {
        buf_addf(out, "[%zu]", path->index);
    } else if (!path->up) {
        buf_add_str(out, path->key);
    } else if (!plain_word(path->key)) {
        buf_addf(out, "[%s]", path->key);
    } else {
        if (path->up->up || !path->up->key || path->up->key[0])
            buf_add_char(out, '.');
        buf_add_str(out, path->key);
    }
}

/* Written from the end, so that no memory is needed and what is cut is the front. */
static size_t put_front(char *ret, size_t at, const char *text)
{
    size_t n = strlen(text);

    if (n > at) {
        text += n - at;
        n = at;
    }
    memcpy(ret + at - n, text, n);
    return at - n;
}

const char *fpath_str(const struct fpath *path, char *ret, size_t cap)
{
    size_t at = cap - 1;
    char index[32];

    ret[at] = '\0';
    for (; path && at; path = path->up) {
        if (!path->key) {
            snprintf(index, sizeof index, "[%zu]", path->index);
            at = put_front(ret, at, index);
        } else if (!path->up) {
            at = put_front(ret, at, path->key);
        } else if (!plain_word(path->key)) {
            at = put_front(ret, at, "]");
            at = put_front(ret, at, path->key);
            at = put_front(ret, at, "[");
        } else {
            at = put_front(ret, at, path->key);
            if (path->up->up || !path->up->key || path->up->key[0])
                at = put_front(ret, at, ".");
        }
    }
    if (path && cap > 3)
        memcpy(ret, "...", 3);
    memmove(ret, ret + at, cap - at);
    return ret;
}

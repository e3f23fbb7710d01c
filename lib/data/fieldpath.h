/* SPDX-License-Identifier: Apache-2.0 */
/* Where a value stands in an object, as a chain of stack frames: a decoder that goes down makes one
 * link, and only an error turns the chain into text: `spec.http[0].match[1].uri`. */
#pragma once

#include "lib/base/buf.h"

struct fpath {
    const struct fpath *up; /* NULL at the root */
    const char *key;        /* NULL: this is element `index` of an array */
    size_t index;
};
#define FPATH_ROOT ((struct fpath){NULL, "", 0})
#define FPATH_KEY(up, key) ((struct fpath){(up), (key), 0})
#define FPATH_INDEX(up, i) ((struct fpath){(up), NULL, (i)})

/* Keys that are not plain words stand in brackets: `metadata.labels[app.kubernetes.io/name]`. */
void fpath_text(const struct fpath *path, struct buf *out);
/* The same into fixed storage, cut at the front ("...") when too long. Returns ret. */
const char *fpath_str(const struct fpath *path, char *ret, size_t cap);

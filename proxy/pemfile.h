/* SPDX-License-Identifier: Apache-2.0 */
/* Files of certificates and keys in the proxy's container: read whole, wiped, and looked at again. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

enum {
    PEMFILE_MAX = 4 << 20, /* bytes of one */
    PEMFILE_LOOK_S = 5,    /* how often they are looked at again */
};
struct pemfile_stamp { /* what changes when the file does; all zero: it is not there */
    int64_t mtime_ns, size;
    uint64_t inode;
};
/* Of the file, as it is now; "" has none. */
struct pemfile_stamp pemfile_stamp(const char *path);
/* The whole file into one block, which pemfile_wipe frees. ERR_UNAVAILABLE with its name. */
int pemfile_read(const char *path, struct slice *ret, struct err *err);
/* Overwrite and free; null is fine. */
void pemfile_wipe(struct slice s);

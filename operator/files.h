/* SPDX-License-Identifier: Apache-2.0 */
/* Small whole files. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Read at most `max` bytes as a NUL-terminated heap string (mem_free). ERR_NOT_FOUND, ERR_LIMIT,
 * ERR_IO, ERR_NOMEM. */
int file_read(const char *path, size_t max, char **ret, struct err *err);
/* Write beside and rename, so that no reader sees a part. */
int file_write(const char *path, unsigned mode, struct slice text, struct err *err);

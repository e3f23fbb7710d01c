/* SPDX-License-Identifier: Apache-2.0 */
/* Quantities of resources as Kubernetes writes them: "10m", "16Mi", "2", "1.5", "1e3", "100k". */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* In thousandths, rounded up (away from zero) as Kubernetes does: "10m" is 10, "1" is 1000.
 * Suffixes n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or an exponent. ERR_INVALID, or ERR_LIMIT beyond
 * int64. */
enum err_code quantity_parse(struct slice text, int64_t *ret_milli);

/* SPDX-License-Identifier: Apache-2.0 */
/* Durations as text: protobuf's JSON form ("1.5s") and Go's ("1h30m", "100ms"), which Istio's
 * fields take. */
#pragma once

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Nanoseconds. A sequence of decimal numbers with unit ns us µs ms s m h, an optional sign in
 * front; "0" alone needs no unit. ERR_INVALID on anything else, ERR_LIMIT beyond 292 years.
 * Fractions of a nanosecond are cut. */
enum err_code duration_parse(struct slice text, int64_t *ret_ns);
/* Shortest Go-like form without loss: "1h30m", "1.5s", "250ms", "0s". Returns ret. */
const char *duration_format(int64_t ns, char ret[40]);

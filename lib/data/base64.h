/* SPDX-License-Identifier: Apache-2.0 */
/* Base 64 (RFC 4648), strict: no white space, padding as the form has it, unused bits zero, so that
 * each value has one spelling. */
#pragma once

#include "lib/base/buf.h"

enum base64_form {
    BASE64_STD, /* section 4, with padding */
    BASE64_URL, /* section 5, without padding (RFC 7515 2) */
};
void base64_encode(struct slice in, enum base64_form form, struct buf *out);
/* Appends the bytes. ERR_INVALID leaves `out` as it was; ERR_LIMIT and ERR_NOMEM come from it. */
enum err_code base64_decode(struct slice in, enum base64_form form, struct buf *out);

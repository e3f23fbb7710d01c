/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as caller-owned values. The code says what to do next, the text says what happened; each
 * level that passes an error on adds the part of the sentence that only it knows. No heap is used,
 * so that running out of memory can be reported too. The hot path uses `enum err_code` alone. */
#pragma once

#include <stddef.h>

/* clang-format off */
#define ERR_CODES(X)                                                          \
    X(OK,          "ok")                                                      \
    X(AGAIN,       "not now; wait for readiness and repeat")                  \
    X(EOF,         "the peer ended the stream in good order")                 \
    X(INVALID,     "input breaks a rule; tell the user, do not repeat")       \
    X(PROTO,       "the peer broke a protocol; close")                        \
    X(LIMIT,       "a stated limit was reached")                              \
    X(NOMEM,       "out of memory")                                           \
    X(NOT_FOUND,   "no such thing")                                           \
    X(EXISTS,      "already there")                                           \
    X(CONFLICT,    "changed meanwhile; read again and repeat soon")           \
    X(GONE,        "too old to resume; start anew")                           \
    X(DENIED,      "not allowed; repeat slowly, tell the user")               \
    X(UNAVAILABLE, "the other side is away; repeat with back-off")            \
    X(TIMEOUT,     "a deadline passed")                                       \
    X(CLOSED,      "closed by this side")                                     \
    X(UNSUPPORTED, "known but not implemented; tell the user")                \
    X(IO,          "the operating system refused; see the text")              \
    X(INTERNAL,    "a broken promise of our own code")
/* clang-format on */

enum err_code {
#define X(name, meaning) ERR_##name,
    ERR_CODES(X)
#undef X
};

struct err {
    enum err_code code;
    char msg[224];
};

/* The name of a code in lower case with '_' ("not_found"), for logs and metrics. Static storage. */
const char *err_code_name(enum err_code code);
/* Set *err (may be NULL). Text that does not fit is cut. Always returns -1. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Prefix the text: "new: old". The code stays. err may be NULL. Always returns -1. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Set from errno-style number: code ERR_IO (or NOMEM, AGAIN, TIMEOUT, UNAVAILABLE where errno says
 * so) and the text "<fmt>: <strerror>". Always returns -1. */
int err_errno(struct err *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

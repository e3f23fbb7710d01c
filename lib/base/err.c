/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/err.h"

#include "lib/base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/libc.h"

const char *err_code_name(enum err_code code)
{
    /* clang-format off */
    static const char *const names[] = {
        [ERR_OK] = "ok", [ERR_AGAIN] = "again", [ERR_EOF] = "eof", [ERR_INVALID] = "invalid",
        [ERR_PROTO] = "proto", [ERR_LIMIT] = "limit", [ERR_NOMEM] = "nomem",
        [ERR_NOT_FOUND] = "not_found", [ERR_EXISTS] = "exists", [ERR_CONFLICT] = "conflict",
        [ERR_GONE] = "gone", [ERR_DENIED] = "denied", [ERR_UNAVAILABLE] = "unavailable",
        [ERR_TIMEOUT] = "timeout", [ERR_CLOSED] = "closed", [ERR_UNSUPPORTED] = "unsupported",
        [ERR_IO] = "io", [ERR_INTERNAL] = "internal",
    };
    /* clang-format on */
#define X(name, meaning) +1
    _Static_assert(N_OF(names) == ERR_CODES(X), "one name a code");
#undef X
    return (size_t)code < N_OF(names) ? names[code] : "unknown";
}

/* The text may be made from the old one (a caller passing err->msg), so it is built aside. */
__attribute__((format(printf, 2, 0))) static void text_set(struct err *err, const char *fmt,
                                                           va_list ap)
{
    char tmp[sizeof err->msg];

    vsnprintf(tmp, sizeof tmp, fmt, ap);
    memcpy(err->msg, tmp, strlen(tmp) + 1);
}

static void text_append(struct err *err, const char *more)
{
    size_t have = strlen(err->msg), n = strlen(more), room = sizeof err->msg - 1 - have;

    n = n < room ? n : room;
    memcpy(err->msg + have, more, n);
    err->msg[have + n] = '\0';
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list ap;

    if (!err)
        return -1;
    va_start(ap, fmt);
    text_set(err, fmt, ap);
    va_end(ap);
    err->code = code;
    return -1;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char old[sizeof err->msg];
    va_list ap;

    if (!err)
        return -1;
    memcpy(old, err->msg, sizeof old);
    old[sizeof old - 1] = '\0';
    va_start(ap, fmt);
    text_set(err, fmt, ap);
    va_end(ap);
    if (old[0]) {
        text_append(err, ": ");
        text_append(err, old);
    }
    return -1;
}

static enum err_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOMEM:
        return ERR_NOMEM;
    case EAGAIN:
    case EINTR:
        return ERR_AGAIN;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case EHOSTUNREACH:
    case EHOSTDOWN:
    case ENETUNREACH:
    case ENETDOWN:
        return ERR_UNAVAILABLE;
    default:
        return ERR_IO;
    }
}

int err_errno(struct err *err, int errnum, const char *fmt, ...)
{
    const char *text = strerrordesc_np(errnum);
    char number[32];
    va_list ap;

    if (!err)
        return -1;
    va_start(ap, fmt);
    text_set(err, fmt, ap);
    va_end(ap);
    if (!text) {
        snprintf(number, sizeof number, "errno %d", errnum);
        text = number;
    }
    text_append(err, ": ");
    text_append(err, text);
    err->code = code_of_errno(errnum);
    return -1;
}

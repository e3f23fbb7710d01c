/* SPDX-License-Identifier: Apache-2.0 */
/* A line is built on the stack and leaves in one write of at most PIPE_BUF bytes, so that lines of
 * several threads and processes never mix. Nothing here allocates: running out of memory can be
 * logged. */
#include "lib/base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/escape.h"
#include "lib/base/libc.h"

#define LINE_MAX_BYTES PIPE_BUF
#define TAIL_BYTES 16 /* kept free for `..."`, `}` and the line's end */

enum log_level log_threshold = LOG_INFO;

enum fd_kind { FD_UNKNOWN, FD_SOCKET, FD_FILE, FD_STREAM };

static struct {
    const char *program;
    bool json;
    int fd;
    enum fd_kind kind;
    const struct clock *clock;
    _Atomic uint64_t dropped, told; /* lines lost; how many of them a line has told of */
} out = {.program = "", .fd = STDERR_FILENO};

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};

void log_init(const char *program, bool json)
{
    out.program = program;
    out.json = json;
}

const char *log_level_name(enum log_level level)
{
    return (size_t)level < sizeof level_names / sizeof *level_names ? level_names[level] : "info";
}

int log_level_parse(const char *name, enum log_level *ret)
{
    for (int i = LOG_ERROR; i <= LOG_TRACE; i++)
        if (strcasecmp(name, level_names[i]) == 0) {
            *ret = (enum log_level)i;
            return 0;
        }
    if (strcasecmp(name, "warning") != 0)
        return -1;
    *ret = LOG_WARN;
    return 0;
}

void log_set_fd(int fd)
{
    out.fd = fd;
    out.kind = FD_UNKNOWN;
}

void log_set_clock(const struct clock *clock)
{
    out.clock = clock;
}

uint64_t log_dropped(void)
{
    return atomic_load_explicit(&out.dropped, memory_order_relaxed);
}

/* --- the line ------------------------------------------------------------------------------------
 */

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
    bool full; /* something was left out */
};

/* `reserve` bytes at the end stay free. All or nothing. */
static bool line_put(struct line *l, const char *p, size_t n, size_t reserve)
{
    if (l->full || n > sizeof l->text - reserve - l->len) {
        l->full = true;
        return false;
    }
    memcpy(l->text + l->len, p, n);
    l->len += n;
    return true;
}

static void line_str(struct line *l, const char *s)
{
    line_put(l, s, strlen(s), TAIL_BYTES);
}

static void line_close(struct line *l, const char *s) /* uses the tail that was kept free */
{
    size_t n = strlen(s);

    if (n <= sizeof l->text - l->len) {
        memcpy(l->text + l->len, s, n);
        l->len += n;
    }
}

static void line_quoted(struct line *l, struct slice v)
{
    enum escape_form form = out.json ? ESCAPE_JSON : ESCAPE_TEXT;
    char piece[ESCAPE_MAX];

    if (!line_put(l, "\"", 1, TAIL_BYTES + 1))
        return;
    while (v.len) {
        size_t used, n = escape_step(v, form, piece, &used);

        if (!line_put(l, piece, n, TAIL_BYTES))
            break;
        v = slice_skip(v, used);
    }
    line_close(l, v.len ? "...\"" : "\"");
}

static bool plain(struct slice v)
{
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.p[i];

        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return false;
    }
    return v.len > 0;
}

/* ` key=value` or `,"key":value`. A `number` stands bare in JSON. */
static void line_pair(struct line *l, struct slice key, struct slice value, bool number)
{
    size_t mark = l->len;

    if (l->full)
        return;
    if (out.json) {
        line_str(l, l->len > 1 ? ",\"" : "\"");
        line_put(l, key.p, key.len, TAIL_BYTES);
        line_str(l, "\":");
    } else {
        if (l->len)
            line_str(l, " ");
        line_put(l, key.p, key.len, TAIL_BYTES);
        line_str(l, "=");
    }
    if (l->full || l->len + TAIL_BYTES + 2 > sizeof l->text) {
        l->len = mark; /* no half key */
        l->full = true;
        return;
    }
    if (out.json ? number : plain(value)) {
        if (!line_put(l, value.p, value.len, TAIL_BYTES))
            l->len = mark;
    } else {
        line_quoted(l, value);
    }
}

/* --- one value of the format ---------------------------------------------------------------------
 */

struct value {
    char text[LINE_MAX_BYTES];
    size_t len;
    int conversions;
    bool literal; /* holds text of the format itself */
    bool number;  /* the one conversion was numeric and finite */
};

static void value_add(struct value *v, const char *p, size_t n)
{
    n = MIN(n, sizeof v->text - v->len);
    memcpy(v->text + v->len, p, n);
    v->len += n;
}

struct args {
    va_list ap; /* in a struct, so that it can be handed down by address */
};

/* printf's own formatting for one numeric conversion whose text is `spec`. */
static void value_number(struct value *v, const char *spec, const char *length, char conv,
                         struct args *args)
{
    bool is_signed = conv == 'd' || conv == 'i';
    char tmp[400];
    int n;

    /* The spec was cut from a format that the compiler has checked. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    if (strchr("eEfFgGaA", conv))
        n = *length == 'L' ? snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, long double))
                           : snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, double));
    else if (conv == 'p')
        n = snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, void *));
    else if (strcmp(length, "l") == 0 || strcmp(length, "z") == 0 || strcmp(length, "t") == 0)
        n = is_signed ? snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, long))
                      : snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, unsigned long));
    else if (strcmp(length, "ll") == 0 || strcmp(length, "j") == 0)
        n = is_signed ? snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, long long))
                      : snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, unsigned long long));
    else
        n = is_signed ? snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, int))
                      : snprintf(tmp, sizeof tmp, spec, va_arg(args->ap, unsigned));
#pragma GCC diagnostic pop
    n = n < 0 ? 0 : MIN(n, (int)sizeof tmp - 1);
    value_add(v, tmp, (size_t)n);
    v->number = n > 0 && strspn(tmp, "0123456789.+-e") == (size_t)n && tmp[0] != '+' &&
                strchr("diufeEgFG", conv) && (tmp[0] != '0' || n == 1 || tmp[1] == '.');
}

static void value_string(struct value *v, const char *s, int precision)
{
    if (!s)
        s = "(null)";
    value_add(v, s, precision >= 0 ? strnlen(s, (size_t)precision) : strlen(s));
}

/* One conversion; *fmt stands behind its '%'. Width and precision given as '*' are resolved here.
 */
static const char *value_conversion(struct value *v, const char *fmt, struct args *args)
{
    char spec[64], length[3] = "", conv;
    int precision = -1, width = 0;
    size_t n = 0;

    spec[n++] = '%';
    for (; *fmt && strchr("-+ #0", *fmt); fmt++)
        if (n < 8)
            spec[n++] = *fmt;
    if (*fmt == '*') {
        width = va_arg(args->ap, int);
        fmt++;
    } else {
        for (; *fmt >= '0' && *fmt <= '9'; fmt++)
            width = MIN(width * 10 + (*fmt - '0'), 64);
    }
    if (*fmt == '.') {
        precision = 0;
        if (*++fmt == '*') {
            precision = va_arg(args->ap, int);
            fmt++;
        } else {
            for (; *fmt >= '0' && *fmt <= '9'; fmt++)
                precision = MIN(precision * 10 + (*fmt - '0'), INT_MAX / 16);
        }
    }
    for (size_t k = 0; *fmt && strchr("hljztL", *fmt); fmt++)
        if (k < 2)
            length[k++] = *fmt;
    conv = *fmt;
    if (conv == '\0')
        return fmt;
    fmt++;
    if (conv == '%') {
        value_add(v, "%", 1);
        return fmt;
    }
    v->conversions++;
    if (conv == 's') {
        value_string(v, va_arg(args->ap, const char *), precision);
    } else if (conv == 'c') {
        char c = (char)va_arg(args->ap, int);

        value_add(v, &c, 1);
    } else {
        if (width)
            n += (size_t)snprintf(spec + n, sizeof spec - n, "%d", MAX(-64, MIN(width, 64)));
        if (precision >= 0)
            n += (size_t)snprintf(spec + n, sizeof spec - n, ".%d", MIN(precision, 64));
        snprintf(spec + n, sizeof spec - n, "%s%c", length, conv);
        value_number(v, spec, length, conv, args);
    }
    return fmt;
}

/* The token at *fmt: `key=text`, up to the next blank that is not inside a conversion. */
static const char *token(struct line *l, const char *fmt, struct args *args)
{
    size_t key_len = strcspn(fmt, "=% ");
    struct slice key = slice_of(fmt, key_len);
    struct value v; /* `text` is left as it is: only `len` bytes of it are read */

    v.len = 0;
    v.conversions = 0;
    v.literal = v.number = false;
    if (fmt[key_len] == '=' && key_len)
        fmt += key_len + 1;
    else
        key = SL("detail"); /* a value without a key */
    while (*fmt && *fmt != ' ') {
        if (*fmt == '%') {
            fmt = value_conversion(&v, fmt + 1, args);
        } else {
            v.literal = true;
            value_add(&v, fmt++, 1);
        }
    }
    line_pair(l, key, slice_of(v.text, v.len), v.number && !v.literal && v.conversions == 1);
    return fmt;
}

/* --- the descriptor --------------------------------------------------------------------------- */

static enum fd_kind kind_of(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return FD_STREAM;
    if (S_ISSOCK(st.st_mode))
        return FD_SOCKET;
    return S_ISREG(st.st_mode) ? FD_FILE : FD_STREAM;
}

/* Write the line or nothing, without waiting. The descriptor is shared with other processes (its
 * open file description belongs to whoever started us), so O_NONBLOCK is not set on it. A pipe that
 * polls writable has room for PIPE_BUF bytes (pipe(7)). */
static bool send_line(const char *p, size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)p, n};
    struct pollfd pfd = {.fd = out.fd, .events = POLLOUT};
    ssize_t done;

    if (out.kind == FD_UNKNOWN)
        out.kind = kind_of(out.fd);
    if (out.kind == FD_SOCKET)
        return send(out.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
    if (out.kind == FD_FILE)
        return write(out.fd, p, n) == (ssize_t)n;
    if (poll(&pfd, 1, 0) != 1 || !(pfd.revents & POLLOUT) || (pfd.revents & (POLLERR | POLLNVAL)))
        return false;
    done = pwritev2(out.fd, &iov, 1, -1, RWF_NOWAIT);
    if (done < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS || errno == EPERM))
        done = write(out.fd, p, n);
    return done == (ssize_t)n;
}

static void line_begin(struct line *l, enum log_level level, const char *msg)
{
    struct clock real;
    const struct clock *clock = out.clock;
    char time[32];

    if (!clock) {
        clock_init_real(&real);
        clock = &real;
    }
    clock_rfc3339(clock_wall(clock), 0, time);
    l->len = 0;
    l->full = false;
    if (out.json)
        line_str(l, "{");
    line_pair(l, SL("time"), slice_str(time), false);
    line_pair(l, SL("level"), slice_str(log_level_name(level)), false);
    if (out.program[0])
        line_pair(l, SL("program"), slice_str(out.program), false);
    line_pair(l, SL("msg"), slice_str(msg), false);
}

static bool line_end(struct line *l)
{
    line_close(l, out.json ? "}\n" : l->full ? " ...\n" : "\n");
    return send_line(l->text, l->len);
}

/* Once the descriptor takes lines again, say how many were lost. */
static void tell_dropped(void)
{
    uint64_t lost = atomic_load(&out.dropped), told = atomic_load(&out.told);
    struct line l;
    char digits[24];

    if (lost == told || !atomic_compare_exchange_strong(&out.told, &told, lost))
        return;
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)(lost - told));
    line_begin(&l, LOG_WARN, "Log lines were dropped");
    line_pair(&l, SL("count"), slice_str(digits), true);
    if (!line_end(&l))
        atomic_fetch_sub(&out.told, lost - told); /* tell it later */
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
    int saved_errno = errno;
    struct line l;
    struct args args;

    line_begin(&l, level, msg);
    va_start(args.ap, fmt);
    while (*fmt) {
        if (*fmt == ' ')
            fmt++;
        else
            fmt = token(&l, fmt, &args);
    }
    va_end(args.ap);
    if (line_end(&l))
        tell_dropped();
    else
        atomic_fetch_add_explicit(&out.dropped, 1, memory_order_relaxed);
    errno = saved_errno;
}

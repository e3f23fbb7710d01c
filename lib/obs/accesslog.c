/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/obs/accesslog.h"

#include <stdio.h>
#include <time.h>

#include "lib/base/arena.h"
#include "lib/base/clock.h"
#include "lib/base/escape.h"
#include "lib/base/mem.h"
#include "lib/base/vec.h"
#include "lib/data/json.h"

#define VALUE_MAX ((size_t)8 << 10)
#define FORMAT_MAX ((size_t)16 << 10)
#define JSON_NESTING 8u

/* The columns are Istio's; our end of the upstream connection is not recorded. */
const char al_default_text[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% "
    "- %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

const char al_default_json[] =
    "{\"start_time\":\"%START_TIME%\",\"method\":\"%REQ(:METHOD)%\","
    "\"path\":\"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\",\"protocol\":\"%PROTOCOL%\","
    "\"response_code\":\"%RESPONSE_CODE%\",\"response_flags\":\"%RESPONSE_FLAGS%\","
    "\"response_code_details\":\"%RESPONSE_CODE_DETAILS%\","
    "\"connection_termination_details\":\"%CONNECTION_TERMINATION_DETAILS%\","
    "\"upstream_transport_failure_reason\":\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\","
    "\"bytes_received\":\"%BYTES_RECEIVED%\",\"bytes_sent\":\"%BYTES_SENT%\","
    "\"duration\":\"%DURATION%\","
    "\"upstream_service_time\":\"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%\","
    "\"x_forwarded_for\":\"%REQ(X-FORWARDED-FOR)%\",\"user_agent\":\"%REQ(USER-AGENT)%\","
    "\"request_id\":\"%REQ(X-REQUEST-ID)%\",\"authority\":\"%REQ(:AUTHORITY)%\","
    "\"upstream_host\":\"%UPSTREAM_HOST%\",\"upstream_cluster\":\"%UPSTREAM_CLUSTER_RAW%\","
    "\"upstream_local_address\":null,"
    "\"downstream_local_address\":\"%DOWNSTREAM_LOCAL_ADDRESS%\","
    "\"downstream_remote_address\":\"%DOWNSTREAM_REMOTE_ADDRESS%\","
    "\"requested_server_name\":\"%REQUESTED_SERVER_NAME%\",\"route_name\":\"%ROUTE_NAME%\"}";

static const struct {
    struct slice name;
    bool number;
} ops[] = {
#define X(name, number) {{#name, sizeof #name - 1}, number},
    AL_OPS(X)
#undef X
};

const char *al_op_name(enum al_op op)
{
    return (size_t)op < N_OF(ops) ? ops[op].name.p : "?";
}

enum where {
    IN_TEXT_BARE,   /* outside quotes: blanks are escaped too */
    IN_TEXT_QUOTED, /* inside quotes, or a value that is ours */
    IN_JSON_STRING, /* part of a JSON string */
    AS_JSON_VALUE,  /* a whole JSON value: null, number or string */
};
struct segment {
    struct slice literal; /* written first */
    bool has_op;
    enum al_op op;
    enum where where;
    struct slice arg, alt; /* null when absent */
    size_t max;            /* bytes of the value; 0: no cut */
};
struct al_program {
    struct arena arena;
    struct segment *segments;
    size_t n;
    uint64_t used; /* one bit an operator */
};
_Static_assert(N_OF(ops) <= 64, "al_program.used has a bit for each operator");

/* --- compiling
 * ------------------------------------------------------------------------------------ */

struct compiler {
    struct al_program *p;
    VEC(struct segment) out;
    struct buf literal; /* gathered before the next operator */
    struct err *err;
    bool in_quotes; /* text form: an odd number of '"' so far */
};

static int no_memory(struct compiler *c)
{
    return err_set(c->err, ERR_NOMEM, "access log format");
}

static int push(struct compiler *c, struct segment s)
{
    struct segment *to = VEC_PUSH(&c->out);

    if (!to || buf_err(&c->literal))
        return no_memory(c);
    *to = s;
    to->literal = arena_slice(&c->p->arena, buf_slice(&c->literal));
    if (buf_len(&c->literal) && !to->literal.p)
        return no_memory(c);
    buf_reset(&c->literal);
    if (s.has_op)
        c->p->used |= UINT64_C(1) << s.op;
    return 0;
}

static struct slice lower_copy(struct arena *a, struct slice s)
{
    char *p = arena_strndup(a, s.p, s.len);

    for (size_t i = 0; p && i < s.len; i++)
        if (p[i] >= 'A' && p[i] <= 'Z')
            p[i] = (char)(p[i] + 32);
    return p ? slice_of(p, s.len) : SLICE_NULL;
}

static bool takes_header(enum al_op op)
{
    return op == AL_REQ || op == AL_RESP || op == AL_TRAILER;
}

static int find_op(struct compiler *c, struct slice name, enum al_op *ret)
{
    for (size_t i = 0; i < N_OF(ops); i++)
        if (slice_eq(name, ops[i].name)) {
            *ret = (enum al_op)i;
            return 0;
        }
    return err_set(c->err, ERR_UNSUPPORTED, "access log operator %%%.*s%% is not one that Tulle fills",
                   (int)MIN(name.len, 64u), name.p);
}

/* Parenthesised argument: "X?Y" for headers, kept as it is for START_TIME. */
static int parse_arg(struct compiler *c, struct segment *s, struct slice arg)
{
    struct arena *a = &c->p->arena;
    ptrdiff_t mark;

    if (s->op == AL_START_TIME) {
        s->arg = arena_slice(a, arg);
        return s->arg.p ? 0 : no_memory(c);
    }
    if (!takes_header(s->op))
        return err_set(c->err, ERR_INVALID, "access log operator %s takes no argument",
                       al_op_name(s->op));
    mark = slice_chr(arg, '?');
    if (mark >= 0) {
        s->alt = lower_copy(a, slice_skip(arg, (size_t)mark + 1));
        arg = slice_head(arg, (size_t)mark);
        if (!s->alt.p)
            return no_memory(c);
    }
    if (arg.len == 0 || (mark >= 0 && s->alt.len == 0))
        return err_set(c->err, ERR_INVALID, "access log operator %s needs the name of a header",
                       al_op_name(s->op));
    s->arg = lower_copy(a, arg);
    return s->arg.p ? 0 : no_memory(c);
}

/* `NAME`, `NAME(arg)`, `NAME:max`, `NAME(arg):max` up to the closing '%'; *fmt stands behind the
 * opening one. */
static int parse_op(struct compiler *c, struct slice *fmt, struct segment *s)
{
    size_t n = 0;
    uint64_t max;

    while (n < fmt->len && ((fmt->p[n] >= 'A' && fmt->p[n] <= 'Z') || fmt->p[n] == '_' ||
                            (fmt->p[n] >= '0' && fmt->p[n] <= '9')))
        n++;
    if (find_op(c, slice_head(*fmt, n), &s->op) < 0)
        return -1;
    s->has_op = true;
    *fmt = slice_skip(*fmt, n);
    if (fmt->len && fmt->p[0] == '(') {
        ptrdiff_t end = slice_chr(*fmt, ')');

        if (end < 0)
            return err_set(c->err, ERR_INVALID, "access log operator %s lacks a ')'",
                           al_op_name(s->op));
        if (parse_arg(c, s, slice_of(fmt->p + 1, (size_t)end - 1)) < 0)
            return -1;
        *fmt = slice_skip(*fmt, (size_t)end + 1);
    } else if (takes_header(s->op)) {
        return err_set(c->err, ERR_INVALID, "access log operator %s needs the name of a header",
                       al_op_name(s->op));
    }
    if (fmt->len && fmt->p[0] == ':') {
        *fmt = slice_skip(*fmt, 1);
        for (n = 0; n < fmt->len && fmt->p[n] >= '0' && fmt->p[n] <= '9';)
            n++;
        if (!slice_u64(slice_head(*fmt, n), VALUE_MAX, &max) || max == 0)
            return err_set(c->err, ERR_INVALID, "access log operator %s: length must be 1..%zu",
                           al_op_name(s->op), VALUE_MAX);
        s->max = (size_t)max;
        *fmt = slice_skip(*fmt, n);
    }
    if (fmt->len == 0 || fmt->p[0] != '%')
        return err_set(c->err, ERR_INVALID, "access log operator %s lacks its closing '%%'",
                       al_op_name(s->op));
    *fmt = slice_skip(*fmt, 1);
    return 0;
}

static void literal_char(struct compiler *c, char ch, bool json)
{
    char piece[ESCAPE_MAX];
    size_t used;

    if (!json) {
        c->in_quotes ^= ch == '"';
        buf_add_char(&c->literal, ch);
    } else if ((unsigned char)ch >= 0x80) {
        buf_add_char(&c->literal, ch); /* the text came out of a JSON parser: it is UTF-8 */
    } else {
        buf_add(&c->literal, piece, escape_step(slice_of(&ch, 1), ESCAPE_JSON, piece, &used));
    }
}

/* Text with operators; in the JSON form it is the inside of a string. */
static int compile_text(struct compiler *c, struct slice fmt, bool json)
{
    while (fmt.len) {
        char ch = fmt.p[0];

        fmt = slice_skip(fmt, 1);
        if (ch == '%' && fmt.len && fmt.p[0] == '%') {
            fmt = slice_skip(fmt, 1);
            literal_char(c, '%', json);
        } else if (ch == '%') {
            struct segment s = {.where = json           ? IN_JSON_STRING
                                         : c->in_quotes ? IN_TEXT_QUOTED
                                                        : IN_TEXT_BARE};

            if (parse_op(c, &fmt, &s) < 0)
                return -1;
            if (s.where == IN_TEXT_BARE && s.op == AL_START_TIME)
                s.where = IN_TEXT_QUOTED; /* ours: its blanks are what the format asked for */
            if (push(c, s) < 0)
                return -1;
        } else {
            literal_char(c, ch, json);
        }
    }
    return 0;
}

/* A string value: one operator alone keeps its kind, everything else is a string. */
static int compile_json_string(struct compiler *c, struct slice fmt)
{
    struct slice rest = slice_skip(fmt, 1);
    struct segment s = {.where = AS_JSON_VALUE};

    if (fmt.len > 1 && fmt.p[0] == '%' && fmt.p[1] != '%') {
        if (parse_op(c, &rest, &s) < 0)
            return -1;
        if (rest.len == 0)
            return push(c, s);
    }
    buf_add_char(&c->literal, '"');
    if (compile_text(c, fmt, true) < 0)
        return -1;
    buf_add_char(&c->literal, '"');
    return 0;
}

static int compile_json(struct compiler *c, json_t *v, unsigned level)
{
    const char *sep = "{";

    if (json_is_string(v))
        return compile_json_string(c, slice_of(json_string_value(v), json_string_length(v)));
    if (json_is_array(v) || level > JSON_NESTING)
        return err_set(c->err, ERR_INVALID,
                       "access log format: lists and deep nesting are not "
                       "supported");
    if (!json_is_object(v)) {
        json_write(v, JSON_TIGHT, &c->literal);
        return 0;
    }
    for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it)) {
        buf_add_str(&c->literal, sep);
        sep = ",";
        json_quote(slice_str(json_object_iter_key(it)), &c->literal);
        buf_add_char(&c->literal, ':');
        if (compile_json(c, json_object_iter_value(it), level + 1) < 0)
            return -1;
    }
    buf_add_str(&c->literal, json_object_size(v) ? "}" : "{}");
    return 0;
}

static int compile(struct compiler *c, struct slice format, bool json)
{
    CLEANUP(json_freep) json_t *doc = NULL;

    if (!json) {
        if (compile_text(c, format, false) < 0)
            return -1;
        if (format.p[format.len - 1] != '\n')
            buf_add_char(&c->literal, '\n');
        return push(c, (struct segment){0});
    }
    if (json_parse(format, NULL, &doc, c->err) < 0)
        return err_wrap(c->err, "access log format");
    if (!json_is_object(doc))
        return err_set(c->err, ERR_INVALID, "access log format must be an object, is %s",
                       json_kind(doc));
    if (compile_json(c, doc, 0) < 0)
        return -1;
    buf_add_char(&c->literal, '\n');
    return push(c, (struct segment){0});
}

int al_compile(struct slice format, bool json, struct al_program **ret, struct err *err)
{
    CLEANUP(al_freep) struct al_program *p = mem_zalloc(sizeof *p);
    struct compiler c = {.p = p, .err = err};
    int rc;

    if (!p)
        return err_set(err, ERR_NOMEM, "access log format");
    if (format.len > FORMAT_MAX)
        return err_set(err, ERR_LIMIT, "access log format is longer than %zu bytes", FORMAT_MAX);
    if (format.len == 0)
        format = slice_str(json ? al_default_json : al_default_text);
    buf_init(&c.literal, 4 * FORMAT_MAX + 64);
    rc = compile(&c, format, json);
    buf_fini(&c.literal);
    if (rc == 0) {
        p->segments = ARENA_ARRAY(&p->arena, struct segment, c.out.len);
        if (p->segments)
            memcpy(p->segments, c.out.p, c.out.len * sizeof *c.out.p);
        else
            rc = no_memory(&c);
        p->n = c.out.len;
    }
    VEC_FREE(&c.out);
    if (rc < 0)
        return -1;
    *ret = TAKE(p);
    return 0;
}

void al_free(struct al_program *p)
{
    if (!p)
        return;
    arena_fini(&p->arena);
    mem_free(p);
}

void al_freep(struct al_program **p)
{
    al_free(*p);
}

bool al_uses(const struct al_program *p, enum al_op op)
{
    return p->used >> op & 1;
}

struct slice al_arg(const struct al_program *p, enum al_op op, size_t i)
{
    for (size_t k = 0; k < p->n; k++) {
        const struct segment *s = &p->segments[k];
        size_t has = !s->has_op || s->op != op ? 0 : s->alt.p ? 2 : 1;

        if (i < has)
            return i ? s->alt : s->arg;
        i -= has;
    }
    return SLICE_NULL;
}

/* --- running
 * -------------------------------------------------------------------------------------- */

/* 1: a byte that is escaped everywhere; 2: where a blank would end the value. */
static const unsigned char dirty[256] = {
    [0 ... 0x1f] = 1, [' '] = 2, ['"'] = 1, ['\\'] = 1, [0x7f ... 0xff] = 1};

static bool clean(struct slice v, enum where where)
{
    unsigned char seen = 0;

    for (size_t i = 0; i < v.len; i++)
        seen |= dirty[(unsigned char)v.p[i]];
    return !(seen & (where == IN_TEXT_BARE ? 3 : 1));
}

/* Escape the bytes from `mark` on, in place; most values need nothing. */
static void escape_tail(struct buf *out, size_t mark, enum where where)
{
    struct slice v = slice_skip(buf_slice(out), mark);
    enum escape_form form = where >= IN_JSON_STRING ? ESCAPE_JSON : ESCAPE_TEXT;
    char raw[VALUE_MAX], piece[ESCAPE_MAX];

    if (clean(v, where))
        return;
    memcpy(raw, v.p, v.len);
    v.p = raw;
    buf_truncate(out, mark);
    while (v.len) {
        size_t used, n = escape_step(v, form, piece, &used);

        if (where == IN_TEXT_BARE && v.p[0] == ' ')
            buf_add_str(out, "\\x20");
        else
            buf_add(out, piece, n);
        v = slice_skip(v, used);
    }
}

static bool numeric(struct slice v)
{
    if (v.len && v.p[0] == '-')
        v = slice_skip(v, 1);
    if (v.len == 0 || v.len > 18 || (v.len > 1 && v.p[0] == '0'))
        return false;
    for (size_t i = 0; i < v.len; i++)
        if (v.p[i] < '0' || v.p[i] > '9')
            return false;
    return true;
}

static void write_value(const struct segment *s, al_value_fn *value, void *user, struct buf *out)
{
    size_t start = buf_len(out), mark = start, max = s->max ? s->max : VALUE_MAX;

    if (s->where == AS_JSON_VALUE && !ops[s->op].number) {
        buf_add_char(out, '"');
        mark++;
    }
    value(user, s->op, s->arg, out);
    if (buf_len(out) == mark && s->alt.p)
        value(user, s->op, s->alt, out);
    if (buf_err(out))
        return;
    buf_truncate(out, mark + max);
    if (buf_len(out) == mark) {
        buf_truncate(out, start);
        buf_add_str(out, s->where == AS_JSON_VALUE ? "null" : "-");
        return;
    }
    if (s->where != AS_JSON_VALUE) {
        escape_tail(out, mark, s->where);
    } else if (!ops[s->op].number) {
        escape_tail(out, mark, s->where);
        buf_add_char(out, '"');
    } else if (!numeric(slice_skip(buf_slice(out), mark))) {
        buf_truncate(out, mark); /* a number that is none must not break the line */
        buf_add_str(out, "null");
    }
}

void al_write(const struct al_program *p, al_value_fn *value, void *user, struct buf *out)
{
    size_t start = buf_len(out);

    for (size_t i = 0; i < p->n; i++) {
        buf_add_slice(out, p->segments[i].literal);
        if (p->segments[i].has_op)
            write_value(&p->segments[i], value, user, out);
    }
    if (buf_err(out))
        buf_truncate(out, start);
}

/* --- time
 * ----------------------------------------------------------------------------------------- */

/* %f, %3f, %6f, %9f at the front of `f` (behind its '%'): digits of the fraction; *ret_used is the
 * length of the specifier, 0 when it is another one. */
static int fraction_digits(struct slice f, size_t *ret_used)
{
    *ret_used = 0;
    if (f.len && f.p[0] == 'f')
        *ret_used = 1;
    else if (f.len > 1 && f.p[1] == 'f' && f.p[0] >= '1' && f.p[0] <= '9')
        *ret_used = 2;
    return *ret_used == 2 ? f.p[0] - '0' : 9;
}

void al_time(int64_t wall_ns, struct slice format, struct buf *out)
{
    int64_t s = wall_ns / NS_PER_S, ns = wall_ns % NS_PER_S;
    char text[64], spec[3] = "%?", digits[16];
    struct tm tm;
    time_t t;

    if (!format.p) {
        clock_rfc3339(wall_ns, 0, text);
        buf_add_str(out, text);
        return;
    }
    if (ns < 0) {
        ns += NS_PER_S;
        s--;
    }
    t = (time_t)s;
    gmtime_r(&t, &tm);
    while (format.len) {
        char c = format.p[0];
        size_t used, n;
        int wanted;

        format = slice_skip(format, 1);
        if (c != '%' || format.len == 0) {
            buf_add_char(out, c);
            continue;
        }
        wanted = fraction_digits(format, &used);
        if (used) {
            snprintf(digits, sizeof digits, "%09d", (int)ns);
            buf_add(out, digits, (size_t)wanted);
            format = slice_skip(format, used);
            continue;
        }
        spec[1] = format.p[0];
        format = slice_skip(format, 1);
        if (spec[1] == 's') {
            buf_addf(out, "%lld", (long long)s);
            continue;
        }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        n = strftime(text, sizeof text, spec, &tm);
#pragma GCC diagnostic pop
        buf_add(out, text, n);
    }
}

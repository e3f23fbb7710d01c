/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of json.h (RFC 8259). It makes jansson's values but is not jansson's own parser: that
 * one (2.14) writes beyond its buffers when memory runs out within a string, and cannot be told how
 * deep it may go. The fuzz target checks that both read alike. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "lib/base/escape.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"

#define DEPTH 64u
#define BYTES ((size_t)16 << 20)

struct reader {
    const char *p, *end, *begin;
    unsigned depth, max_depth;
    struct buf text; /* strings with escapes, numbers */
    struct err *err;
};

static int fail(struct reader *r, enum err_code code, const char *what)
{
    size_t line = 1, column = 1;

    for (const char *p = r->begin; p < r->p; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    return err_set(r->err, code, "line %zu column %zu: %s", line, column, what);
}

static int no_memory(struct reader *r)
{
    return err_set(r->err, ERR_NOMEM, "JSON: out of memory");
}

static void skip_blanks(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

/* The next byte that is no blank; 0 at the end (a NUL in the text is refused all the same). */
static char peek(struct reader *r)
{
    skip_blanks(r);
    return r->p < r->end ? *r->p : '\0';
}

static int hex4(struct reader *r, unsigned *ret)
{
    uint64_t v;

    if (r->end - r->p < 4 || !slice_hex64(slice_of(r->p, 4), &v))
        return fail(r, ERR_INVALID, "\\u needs four hex digits");
    r->p += 4;
    *ret = (unsigned)v;
    return 0;
}

static void add_code_point(struct buf *b, unsigned c)
{
    if (c < 0x80) {
        buf_add_char(b, (char)c);
        return;
    }
    if (c < 0x800) {
        buf_add_char(b, (char)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            buf_add_char(b, (char)(0xe0 | c >> 12));
        } else {
            buf_add_char(b, (char)(0xf0 | c >> 18));
            buf_add_char(b, (char)(0x80 | (c >> 12 & 63)));
        }
        buf_add_char(b, (char)(0x80 | (c >> 6 & 63)));
    }
    buf_add_char(b, (char)(0x80 | (c & 63)));
}

/* RFC 8259 7: \uD83D\uDE00 are the two halves of one character. */
static int unicode_escape(struct reader *r)
{
    unsigned c, low;

    if (hex4(r, &c) < 0)
        return -1;
    if (c == 0)
        return fail(r, ERR_INVALID, "NUL in a string");
    if (c >= 0xd800 && c <= 0xdbff) {
        if (r->end - r->p < 2 || r->p[0] != '\\' || r->p[1] != 'u')
            return fail(r, ERR_INVALID, "half of a surrogate pair");
        r->p += 2;
        if (hex4(r, &low) < 0)
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, ERR_INVALID, "half of a surrogate pair");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    } else if (c >= 0xdc00 && c <= 0xdfff) {
        return fail(r, ERR_INVALID, "half of a surrogate pair");
    }
    add_code_point(&r->text, c);
    return 0;
}

static int escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at;
    char c;

    if (r->p == r->end)
        return fail(r, ERR_INVALID, "string without an end");
    c = *r->p++;
    if (c == 'u')
        return unicode_escape(r);
    at = c ? strchr(from, c) : NULL;
    if (!at)
        return fail(r, ERR_INVALID, "unknown escape");
    buf_add_char(&r->text, to[at - from]);
    return 0;
}

/* The string that begins behind the opening quote. Borrows from the input, or from r->text when it
 * held escapes. */
static int string(struct reader *r, struct slice *ret)
{
    const char *from = r->p;
    bool escaped = false;

    buf_reset(&r->text);
    while (r->p < r->end && *r->p != '"') {
        size_t n = utf8_len(slice_of(r->p, (size_t)(r->end - r->p)));

        if (n == 0)
            return fail(r, ERR_INVALID, "string is not UTF-8");
        if ((unsigned char)*r->p < 0x20)
            return fail(r, ERR_INVALID, "control character in a string");
        if (*r->p != '\\') {
            r->p += n;
            continue;
        }
        buf_add(&r->text, from, (size_t)(r->p - from));
        escaped = true;
        r->p++;
        if (escape(r) < 0)
            return -1;
        from = r->p;
    }
    if (r->p == r->end)
        return fail(r, ERR_INVALID, "string without an end");
    if (escaped)
        buf_add(&r->text, from, (size_t)(r->p - from));
    *ret = escaped ? buf_slice(&r->text) : slice_of(from, (size_t)(r->p - from));
    r->p++;
    return buf_err(&r->text) ? no_memory(r) : 0;
}

static bool digits(struct reader *r)
{
    const char *from = r->p;

    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > from;
}

static int real_value(struct reader *r, const char *text, json_t **ret)
{
    double v = strtod(text, NULL);

    if (!isfinite(v))
        return fail(r, ERR_INVALID, "number out of range");
    *ret = json_real(v);
    return *ret ? 0 : no_memory(r);
}

/* RFC 8259 6 */
static int number(struct reader *r, json_t **ret)
{
    const char *from = r->p;
    bool real = false;
    long long v;

    r->p += *r->p == '-';
    if (r->p < r->end && *r->p == '0')
        r->p++;
    else if (!digits(r))
        return fail(r, ERR_INVALID, "not a value");
    if (r->p < r->end && *r->p == '.') {
        real = true;
        r->p++;
        if (!digits(r))
            return fail(r, ERR_INVALID, "digits must follow the point");
    }
    if (r->p < r->end && (*r->p == 'e' || *r->p == 'E')) {
        real = true;
        r->p++;
        if (r->p < r->end && (*r->p == '+' || *r->p == '-'))
            r->p++;
        if (!digits(r))
            return fail(r, ERR_INVALID, "digits must follow the exponent");
    }
    buf_reset(&r->text);
    buf_add(&r->text, from, (size_t)(r->p - from));
    buf_cstr(&r->text);
    if (buf_err(&r->text))
        return no_memory(r);
    if (real)
        return real_value(r, buf_cstr(&r->text), ret);
    errno = 0;
    v = strtoll(buf_cstr(&r->text), NULL, 10);
    if (errno)
        return fail(r, ERR_INVALID, "number out of range");
    *ret = json_integer(v);
    return *ret ? 0 : no_memory(r);
}

static int value(struct reader *r, json_t **ret);

static int enter(struct reader *r)
{
    if (r->depth >= r->max_depth)
        return fail(r, ERR_LIMIT, "nested too deeply");
    r->depth++;
    r->p++;
    return 0;
}

static int array(struct reader *r, json_t **ret)
{
    CLEANUP(json_freep) json_t *a = NULL;

    if (enter(r) < 0)
        return -1;
    a = json_array();
    if (!a)
        return no_memory(r);
    if (peek(r) != ']')
        for (;;) {
            json_t *item;

            if (value(r, &item) < 0)
                return -1;
            if (json_array_append_new(a, item) < 0)
                return no_memory(r);
            if (peek(r) != ',')
                break;
            r->p++;
        }
    if (peek(r) != ']')
        return fail(r, ERR_INVALID, "',' or ']' expected");
    r->p++;
    r->depth--;
    *ret = TAKE(a);
    return 0;
}

static int member(struct reader *r, json_t *o)
{
    CLEANUP(mem_freep) char *key = NULL;
    struct slice name;
    json_t *v;

    if (peek(r) != '"')
        return fail(r, ERR_INVALID, "a key in quotes expected");
    r->p++;
    if (string(r, &name) < 0)
        return -1;
    key = mem_strndup(name.p, name.len);
    if (!key)
        return no_memory(r);
    if (json_object_get(o, key))
        return fail(r, ERR_INVALID, "duplicate key");
    if (peek(r) != ':')
        return fail(r, ERR_INVALID, "':' expected");
    r->p++;
    if (value(r, &v) < 0)
        return -1;
    return json_object_set_new_nocheck(o, key, v) < 0 ? no_memory(r) : 0;
}

static int object(struct reader *r, json_t **ret)
{
    CLEANUP(json_freep) json_t *o = NULL;

    if (enter(r) < 0)
        return -1;
    o = json_object();
    if (!o)
        return no_memory(r);
    if (peek(r) != '}')
        for (;;) {
            if (member(r, o) < 0)
                return -1;
            if (peek(r) != ',')
                break;
            r->p++;
        }
    if (peek(r) != '}')
        return fail(r, ERR_INVALID, "',' or '}' expected");
    r->p++;
    r->depth--;
    *ret = TAKE(o);
    return 0;
}

static int word(struct reader *r, const char *text, json_t *v, json_t **ret)
{
    struct slice rest = slice_of(r->p, (size_t)(r->end - r->p));

    if (!slice_starts(rest, slice_str(text)))
        return fail(r, ERR_INVALID, "not a value");
    r->p += strlen(text);
    *ret = v; /* one of jansson's constants */
    return 0;
}

static int value(struct reader *r, json_t **ret)
{
    struct slice s;

    switch (peek(r)) {
    case '{':
        return object(r, ret);
    case '[':
        return array(r, ret);
    case '"':
        r->p++;
        if (string(r, &s) < 0)
            return -1;
        *ret = json_stringn_nocheck(s.p ? s.p : "", s.len);
        return *ret ? 0 : no_memory(r);
    case 't':
        return word(r, "true", json_true(), ret);
    case 'f':
        return word(r, "false", json_false(), ret);
    case 'n':
        return word(r, "null", json_null(), ret);
    case '\0':
        return fail(r, ERR_INVALID, "a value expected");
    default:
        return number(r, ret);
    }
}

int json_parse(struct slice text, const struct json_limits *limits, json_t **ret, struct err *err)
{
    size_t bytes = limits && limits->bytes ? limits->bytes : BYTES;
    const char *p = text.p ? text.p : "";
    struct reader r = {
        .p = p,
        .begin = p,
        .end = p + text.len,
        .max_depth = limits && limits->depth ? limits->depth : DEPTH,
        .err = err,
    };
    json_t *v = NULL;
    int rc;

    json_setup();
    if (text.len > bytes)
        return err_set(err, ERR_LIMIT, "JSON text of %zu bytes is longer than %zu", text.len,
                       bytes);
    buf_init(&r.text, text.len + 1);
    rc = value(&r, &v);
    if (rc == 0) {
        skip_blanks(&r);
        if (r.p < r.end) {
            json_decref(v);
            rc = fail(&r, ERR_INVALID, "nothing may follow the value");
        }
    }
    buf_fini(&r.text);
    if (rc == 0)
        *ret = v;
    return rc;
}

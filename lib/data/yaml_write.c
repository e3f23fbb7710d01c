/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/cleanup.h"
#include "lib/base/escape.h"
#include "lib/base/mem.h"
#include "lib/data/yaml_int.h"

static void node(const json_t *v, unsigned level, struct buf *out);

static void indent(unsigned level, struct buf *out)
{
    for (unsigned i = 0; i < level; i++)
        buf_add_str(out, "  ");
}

/* Text that other readers take for something else: 1.1's y and n, dates, sexagesimals. */
static bool ambiguous(struct slice s)
{
    if (yaml_resolve(s, NULL) != YAML_STR || slice_is(s, "<<") || slice_is(s, "=") ||
        slice_starts(s, SL("...")))
        return true;
    if (s.len == 1 && strchr("yYnN", s.p[0]))
        return true;
    if (s.p[0] != '-' && s.p[0] != '+' && (s.p[0] < '0' || s.p[0] > '9'))
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!strchr("0123456789_-+:.tTzZeE ", s.p[i]) || s.p[i] == '\0')
            return false;
    return true;
}

/* Can the string stand without quotes? Kept to what is beyond doubt: printable ASCII. */
static bool plain(struct slice s)
{
    if (s.len == 0 || ambiguous(s) || strchr("-?:,[]{}#&*!|>'\"%@` ", s.p[0]) ||
        s.p[s.len - 1] == ' ' || s.p[s.len - 1] == ':')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < 0x20 || s.p[i] > 0x7e)
            return false;
        if ((s.p[i] == ':' && s.p[i + 1] == ' ') || (s.p[i] == '#' && s.p[i - 1] == ' '))
            return false;
    }
    return true;
}

/* Several lines of printable ASCII, without blanks where a block scalar would lose or misread them.
 */
static bool block(struct slice s)
{
    if (slice_chr(s, '\n') <= 0 || s.p[0] == ' ')
        return false;
    if (s.len > 1 && s.p[s.len - 1] == '\n' && s.p[s.len - 2] == '\n')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] != '\n' && (s.p[i] < 0x20 || s.p[i] > 0x7e))
            return false;
        if (s.p[i] == ' ' && (i + 1 == s.len || s.p[i + 1] == '\n'))
            return false;
    }
    return true;
}

static void write_block(struct slice s, unsigned level, struct buf *out)
{
    bool ends = s.p[s.len - 1] == '\n';
    struct slice line;

    buf_add_str(out, ends ? "|" : "|-");
    if (ends)
        s.len--;
    while (slice_next(&s, '\n', &line)) {
        buf_add_char(out, '\n');
        if (line.len)
            indent(level, out);
        buf_add_slice(out, line);
    }
}

/* Characters that JSON leaves as they are, but that libyaml refuses or takes for line breaks. */
static const char *needs_escape(struct slice c)
{
    static const char *const from[] = {"\xe2\x80\xa8", "\xe2\x80\xa9", "\xef\xbb\xbf",
                                       "\xef\xbf\xbe", "\xef\xbf\xbf"};
    static const char *const to[] = {"\\u2028", "\\u2029", "\\ufeff", "\\ufffe", "\\uffff"};

    for (size_t i = 0; i < N_OF(from); i++)
        if (slice_is(c, from[i]))
            return to[i];
    return NULL;
}

/* Double-quoted, on one line: JSON's escapes are YAML's too (YAML 1.2, 5.7). */
static void quoted(struct slice s, struct buf *out)
{
    buf_add_char(out, '"');
    while (s.len) {
        char piece[ESCAPE_MAX];
        size_t used, n = escape_step(s, ESCAPE_JSON, piece, &used);
        const char *named = needs_escape(slice_head(s, used));

        if (named)
            buf_add_str(out, named);
        else
            buf_add(out, piece, n);
        s = slice_skip(s, used);
    }
    buf_add_char(out, '"');
}

static void string(struct slice s, unsigned level, struct buf *out)
{
    if (plain(s))
        buf_add_slice(out, s);
    else if (block(s))
        write_block(s, level, out);
    else
        quoted(s, out);
}

/* The key and its ':'. A long one stands in the explicit form, as simple keys end at 1024 bytes. */
static void key_text(const char *key, unsigned level, struct buf *out)
{
    struct slice s = slice_str(key);
    bool is_long = s.len > 160; /* six times as long when all is escaped */

    if (is_long)
        buf_add_str(out, "? ");
    if (plain(s))
        buf_add_slice(out, s);
    else
        quoted(s, out);
    if (is_long) {
        buf_add_char(out, '\n');
        indent(level, out);
    }
    buf_add_char(out, ':');
}

static bool is_empty(const json_t *v)
{
    return (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0);
}

static void members(const json_t *v, unsigned level, struct buf *out)
{
    CLEANUP(mem_freep) const char **keys = NULL;
    size_t n = 0;

    keys = json_sorted_keys(v, &n);
    if (!keys) {
        out->failed = ERR_NOMEM;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *m = json_object_get(v, keys[i]);

        if (i)
            indent(level, out);
        key_text(keys[i], level, out);
        if (json_is_object(m) && !is_empty(m)) {
            buf_add_char(out, '\n');
            indent(level + 1, out);
            node(m, level + 1, out);
        } else if (json_is_array(m) && !is_empty(m)) {
            buf_add_char(out, '\n'); /* items stand under their key, as kubectl writes them */
            indent(level, out);
            node(m, level, out);
        } else {
            buf_add_char(out, ' ');
            node(m, level + 1, out);
        }
    }
}

static void items(const json_t *v, unsigned level, struct buf *out)
{
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (i)
            indent(level, out);
        buf_add_str(out, "- ");
        node(json_array_get(v, i), level + 1, out);
    }
}

/* The cursor stands where the value begins; ends behind a newline. */
static void node(const json_t *v, unsigned level, struct buf *out)
{
    if (buf_err(out))
        return;
    if (json_is_object(v) && !is_empty(v)) {
        members(v, level, out);
    } else if (json_is_array(v) && !is_empty(v)) {
        items(v, level, out);
    } else {
        if (json_is_string(v))
            string(slice_of(json_string_value(v), json_string_length(v)), MAX(level, 1u), out);
        else
            json_write(v, JSON_TIGHT, out);
        buf_add_char(out, '\n');
    }
}

void yaml_write(const json_t *v, struct buf *out)
{
    node(v, 0, out);
}

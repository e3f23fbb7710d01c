/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/http/head.h"

#include "lib/base/cleanup.h"

const unsigned char http_tchar[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`',   ['|'] = '|',
    ['~'] = '~', ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4',   ['5'] = '5',
    ['6'] = '6', ['7'] = '7', ['8'] = '8', ['9'] = '9', ['A'] = 'a', ['B'] = 'b',   ['C'] = 'c',
    ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i',   ['J'] = 'j',
    ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p',   ['Q'] = 'q',
    ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w',   ['X'] = 'x',
    ['Y'] = 'y', ['Z'] = 'z', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd',   ['e'] = 'e',
    ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k',   ['l'] = 'l',
    ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',   ['s'] = 's',
    ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y',   ['z'] = 'z',
};

bool http_name_ok(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!http_tchar[(unsigned char)name.p[i]])
            return false;
    return name.len > 0;
}

/* The control characters among eight bytes (below 0x20, and DEL): the top bit of each. No sum carries
 * from one byte to the next, so the answer is exact. */
static inline uint64_t controls(uint64_t w)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t low = w & ~tops;

    return (~(low + ones * 0x60) | (low + ones)) & ~w & tops;
}

static inline uint64_t load(const char *p)
{
    uint64_t w;

    memcpy(&w, p, sizeof w);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    w = __builtin_bswap64(w);
#endif
    return w;
}

/* Index of the first control character, n when there is none. */
static inline size_t find_control(const char *p, size_t n)
{
    const size_t step = sizeof(uint64_t);
    size_t i = 0;

    for (uint64_t hit; n - i >= step; i += step)
        if ((hit = controls(load(p + i))))
            return i + (size_t)__builtin_ctzll(hit) / 8;
    if (n >= step && i < n) { /* the rest again with the clean bytes before it */
        uint64_t hit = controls(load(p + n - step));
        return hit ? n - step + (size_t)__builtin_ctzll(hit) / 8 : n;
    }
    while (i < n && (unsigned char)p[i] >= 0x20 && p[i] != 0x7f)
        i++;
    return i;
}

size_t http_text_len(const char *p, size_t n)
{
    size_t i = find_control(p, n);

    while (i < n && p[i] == '\t')
        i += 1 + find_control(p + i + 1, n - i - 1);
    return i;
}

bool http_value_ok(struct slice value)
{
    return http_text_len(value.p, value.len) == value.len;
}

void http_head_init(struct http_head *h, struct arena *arena)
{
    *h = (struct http_head){.arena = arena, .version = HTTP_1_1, .keep_alive = true};
}

int http_head_next(const struct http_head *h, struct slice name, int from)
{
    for (uint32_t i = (uint32_t)from; i < h->n_fields; i++)
        if (slice_eq(h->fields[i].name, name))
            return (int)i;
    return -1;
}

struct slice http_head_get(const struct http_head *h, struct slice name)
{
    int i = http_head_next(h, name, 0);
    return i < 0 ? SLICE_NULL : h->fields[i].value;
}

struct http_field *http_head_push(struct http_head *h)
{
    if (h->n_fields == h->cap_fields) {
        uint32_t cap = h->cap_fields ? h->cap_fields * 2 : 16;
        struct http_field *p = ARENA_ARRAY(h->arena, struct http_field, cap);
        if (!p)
            return NULL;
        if (h->n_fields)
            memcpy(p, h->fields, h->n_fields * sizeof *p);
        h->fields = p;
        h->cap_fields = cap;
    }
    return &h->fields[h->n_fields++];
}

enum err_code http_head_add(struct http_head *h, struct slice name, struct slice value)
{
    if (!http_name_ok(name) || !http_value_ok(value))
        return ERR_INVALID;
    struct slice n = arena_slice(h->arena, name), v = arena_slice(h->arena, value);
    if (!n.p || (value.len && !v.p))
        return ERR_NOMEM;
    for (size_t i = 0; i < n.len; i++)
        ((char *)(uintptr_t)n.p)[i] = (char)http_tchar[(unsigned char)n.p[i]];
    struct http_field *f = http_head_push(h);
    if (!f)
        return ERR_NOMEM;
    *f = (struct http_field){n, v.p ? v : SL("")};
    return ERR_OK;
}

void http_head_remove(struct http_head *h, struct slice name)
{
    uint32_t to = 0;
    for (uint32_t i = 0; i < h->n_fields; i++)
        if (!slice_ieq(h->fields[i].name, name))
            h->fields[to++] = h->fields[i];
    h->n_fields = to;
}

enum err_code http_head_set(struct http_head *h, struct slice name, struct slice value)
{
    if (!http_name_ok(name) || !http_value_ok(value))
        return ERR_INVALID;
    http_head_remove(h, name);
    return http_head_add(h, name, value);
}

struct slice http_head_joined(const struct http_head *h, struct slice name)
{
    int first = http_head_next(h, name, 0);
    if (first < 0)
        return SLICE_NULL;
    if (http_head_next(h, name, first + 1) < 0)
        return h->fields[first].value;
    size_t len = 0;
    for (int i = first; i >= 0; i = http_head_next(h, name, i + 1))
        len += h->fields[i].value.len + 1;
    char *p = arena_alloc(h->arena, len);
    size_t at = 0;
    for (int i = first; p && i >= 0; i = http_head_next(h, name, i + 1)) {
        if (at)
            p[at++] = ',';
        memcpy(p + at, h->fields[i].value.p, h->fields[i].value.len);
        at += h->fields[i].value.len;
    }
    return p ? slice_of(p, at) : SLICE_NULL;
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = { /* RFC 9110 15, RFC 6585 */
        {100, "Continue"}, {101, "Switching Protocols"}, {103, "Early Hints"}, {200, "OK"},
        {201, "Created"}, {202, "Accepted"}, {203, "Non-Authoritative Information"},
        {204, "No Content"}, {205, "Reset Content"}, {206, "Partial Content"},
        {300, "Multiple Choices"}, {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
        {304, "Not Modified"}, {307, "Temporary Redirect"}, {308, "Permanent Redirect"},
        {400, "Bad Request"}, {401, "Unauthorized"}, {402, "Payment Required"}, {403, "Forbidden"},
        {404, "Not Found"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"}, {408, "Request Timeout"}, {409, "Conflict"},
        {410, "Gone"}, {411, "Length Required"}, {412, "Precondition Failed"},
        {413, "Content Too Large"}, {414, "URI Too Long"}, {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"}, {417, "Expectation Failed"}, {421, "Misdirected Request"},
        {422, "Unprocessable Content"}, {425, "Too Early"}, {426, "Upgrade Required"},
        {428, "Precondition Required"}, {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
        {501, "Not Implemented"}, {502, "Bad Gateway"}, {503, "Service Unavailable"},
        {504, "Gateway Timeout"}, {505, "HTTP Version Not Supported"},
        {511, "Network Authentication Required"},
    };
    for (size_t i = 0; i < N_OF(reasons); i++)
        if (reasons[i].status == status)
            return reasons[i].text;
    return "";
}

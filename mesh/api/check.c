/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/check.h"

#include "lib/base/re.h"
#include "lib/data/cidr.h"
#include "lib/data/host.h"

bool check_host(struct slice host, bool wild, const struct fpath *at, struct findings *f)
{
    struct ipaddr ip;

    if (host.len == 0) {
        findings_add(f, FINDING_INVALID, at, "must name a host");
        return false;
    }
    if (host_is_wildcard(host) && !wild) {
        findings_add(f, FINDING_INVALID, at, "must be one host, is the pattern \"%.*s\"",
                     SHOW(host));
        return false;
    }
    if (host_is_wildcard(host) ? host_pattern_valid(host)
                               : host_valid(host) && !ip_parse(host, &ip))
        return true;
    findings_add(f, FINDING_INVALID, at, "must be a host name, is \"%.*s\"", SHOW(host));
    return false;
}

bool check_port(uint32_t port, const struct fpath *at, struct findings *f)
{
    if (port >= 1 && port <= 65535)
        return true;
    findings_add(f, FINDING_INVALID, at, "must be a port, 1..65535");
    return false;
}

bool check_cidr(struct slice text, const struct fpath *at, struct findings *f)
{
    struct cidr c;

    if (cidr_parse(text, &c))
        return true;
    findings_add(f, FINDING_INVALID, at, "must be an address or a range, is \"%.*s\"", SHOW(text));
    return false;
}

void check_cidrs(const struct api_strings *s, const struct fpath *at, struct findings *f)
{
    for (uint32_t i = 0; i < s->n; i++) {
        AT_INDEX(item, *at, i);
        check_cidr(s->p[i], &item, f);
    }
}

bool check_regex(struct slice pattern, const struct fpath *at, struct findings *f)
{
    struct err err = {0};
    struct re *re;

    if (re_compile(pattern, &re, &err) == 0) {
        re_free(re);
        return true;
    }
    if (err.code == ERR_UNAVAILABLE || err.code == ERR_NOMEM)
        return true;
    findings_add(f, FINDING_REGEX, at, "\"%.*s\" is no regular expression of RE2: %s",
                 SHOW(pattern), err.msg);
    return false;
}

/* What an expression says when it holds nothing but text, or text and a final ".*": the text goes
 * to `ret` (cut at `cap`), *ret_prefix tells of the ".*". False when it says more. */
static bool plain_regex(struct slice re, char *ret, size_t cap, bool *ret_prefix)
{
    size_t n = 0;

    if (re.len && re.p[0] == '^')
        re = slice_skip(re, 1);
    *ret_prefix = slice_ends(re, SL(".*"));
    if (*ret_prefix)
        re = slice_head(re, re.len - 2);
    else if (re.len && re.p[re.len - 1] == '$' && (re.len < 2 || re.p[re.len - 2] != '\\'))
        re = slice_head(re, re.len - 1);
    for (size_t i = 0; i < re.len; i++) {
        char ch = re.p[i];

        if (ch == '\\') {
            if (i + 1 == re.len || !strchr(".-/+?*()[]{}|^$", re.p[i + 1]) || !re.p[i + 1])
                return false;
            ch = re.p[++i];
        } else if (strchr(".+?*()[]{}|^$", ch) || !ch) {
            return false;
        }
        if (n + 1 >= cap)
            return false;
        ret[n++] = ch;
    }
    ret[n] = '\0';
    return true;
}

static void simpler_regex(struct slice re, const struct fpath *at, struct findings *f)
{
    char text[128];
    bool prefix;

    if (!plain_regex(re, text, sizeof text, &prefix))
        return;
    if (prefix && !*text)
        findings_add(f, FINDING_SIMPLER, at,
                     "matches every value: write {} to ask for presence, or leave it out");
    else
        findings_add(f, FINDING_SIMPLER, at, "says the same as %s: \"%s\", which costs less",
                     prefix ? "prefix" : "exact", text);
}

void check_match(const struct api_match *m, const struct fpath *at, struct findings *f)
{
    if (m->kind == API_MATCH_REGEX) {
        AT_KEY(regex, *at, "regex");
        if (check_regex(m->value, &regex, f))
            simpler_regex(m->value, &regex, f);
    }
    if (m->kind == API_MATCH_PREFIX && m->value.len == 0) {
        AT_KEY(prefix, *at, "prefix");
        findings_add(f, FINDING_SUSPECT, &prefix,
                     "an empty prefix matches every value; leave the match out instead");
    }
}

bool check_header_name(struct slice name, const struct fpath *at, struct findings *f)
{
    size_t i;

    for (i = name.len && name.p[0] == ':'; i < name.len; i++) {
        unsigned char ch = (unsigned char)name.p[i];
        bool alnum = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z');

        if (!alnum && (ch == 0 || !strchr("!#$%&'*+-.^_`|~", ch)))
            break;
    }
    if (name.len && i == name.len)
        return true;
    findings_add(f, FINDING_INVALID, at, "\"%.*s\" is no name of a header field", SHOW(name));
    return false;
}

void check_duration(struct opt_ns d, const struct fpath *at, struct findings *f)
{
    if (d.set && d.ns < 1000000)
        findings_add(f, FINDING_INVALID, at, "must be at least 1ms");
}

void check_share(double percent, const struct fpath *at, struct findings *f)
{
    if (!(percent >= 0 && percent <= 100))
        findings_add(f, FINDING_INVALID, at, "must be 0..100, is %g", percent);
}

void check_export_to(const struct api_strings *s, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(list, spec, "exportTo");

    for (uint32_t i = 0; i < s->n; i++) {
        AT_INDEX(at, list, i);
        bool alone = slice_is(s->p[i], "*") || slice_is(s->p[i], "~");

        if (alone && s->n > 1)
            findings_add(f, FINDING_INVALID, &at, "\"%.*s\" must stand alone", SHOW(s->p[i]));
        else if (!alone && !slice_is(s->p[i], ".") && !label_valid(s->p[i]))
            findings_add(f, FINDING_INVALID, &at,
                         "must be \".\", \"*\", \"~\" or a namespace, is \"%.*s\"", SHOW(s->p[i]));
    }
}

/* [A-Za-z0-9] at both ends, also - _ . between, at most 63. */
static bool label_part(struct slice s)
{
    if (s.len == 0 || s.len > 63)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char ch = (unsigned char)s.p[i];
        bool alnum = (ch >= '0' && ch <= '9') || ((ch | 32) >= 'a' && (ch | 32) <= 'z');

        if (!alnum && (i == 0 || i == s.len - 1 || !strchr("-_.", ch) || ch == 0))
            return false;
    }
    return true;
}

static bool label_key(struct slice key)
{
    ptrdiff_t slash = slice_chr(key, '/');

    if (slash < 0)
        return label_part(key);
    return host_valid(slice_head(key, (size_t)slash)) &&
           label_part(slice_skip(key, (size_t)slash + 1));
}

void check_labels(const struct api_map *m, const struct fpath *at, struct findings *f)
{
    for (uint32_t i = 0; i < m->n; i++) {
        /* Keys are NUL-terminated copies (mesh/api/common.h). */
        AT_KEY(item, *at, m->p[i].key.p);

        if (!label_key(m->p[i].key))
            findings_add(f, FINDING_INVALID, &item, "\"%.*s\" is no name of a label",
                         SHOW(m->p[i].key));
        else if (m->p[i].value.len && !label_part(m->p[i].value))
            findings_add(f, FINDING_INVALID, &item,
                         "\"%.*s\" is no value of a label; patterns are not allowed",
                         SHOW(m->p[i].value));
    }
}

void check_selector(const struct api_selector *s, const struct fpath *at, struct findings *f)
{
    if (s->set)
        check_labels(&s->labels, at, f);
}

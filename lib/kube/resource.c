/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/resource.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/slice.h"
#include "lib/kube/kube_int.h"

static struct kube_resource table[] = {
#define X(name, group, version, plural, kind, namespaced)                                          \
    [KUBE_##name] = {group, version, plural, kind, namespaced},
    KUBE_RESOURCES(X)
#undef X
};

const struct kube_resource *kube_resource(enum kube_kind kind)
{
    return &table[kind];
}

void kube_resource_serve(enum kube_kind kind, const char *version)
{
    table[kind].version = version;
}

const struct kube_resource *kube_resource_find(const char *api_version, const char *kind,
                                               struct kube_resource *ret_own)
{
    const char *slash = strchr(api_version, '/');
    struct slice group = slash ? slice_of(api_version, (size_t)(slash - api_version)) : SL("");
    const char *version = slash ? slash + 1 : api_version;
    const struct kube_resource *other = NULL;
    for (const struct kube_resource *r = table; r < table + N_OF(table); r++) {
        if (strcmp(r->kind, kind) != 0 || !slice_is(group, r->group))
            continue;
        if (strcmp(r->version, version) == 0)
            return r;
        other = r;
    }
    if (!other || !ret_own || !*version)
        return NULL;
    *ret_own = *other;
    ret_own->version = version; /* borrowed from api_version */
    return ret_own;
}

char *kube_api_version(const struct kube_resource *r, char *ret, size_t cap)
{
    if (*r->group)
        snprintf(ret, cap, "%s/%s", r->group, r->version);
    else
        snprintf(ret, cap, "%s", r->version);
    return ret;
}

/* One path segment: what Kubernetes names may hold, RBAC's ':' included; no way to climb. */
static bool segment_ok(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > 253 || strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        return false;
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && c != '-' && c != '.' && c != '_' && c != ':')
            return false;
    }
    return true;
}

char *kube_path(const struct kube_resource *r, const char *ns, const char *name, const char *sub,
                struct err *err)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, 2048);
    if (*r->group)
        buf_addf(&b, "/apis/%s/%s", r->group, r->version);
    else
        buf_addf(&b, "/api/%s", r->version);
    if (r->namespaced && ns && *ns) {
        if (!segment_ok(ns)) {
            err_set(err, ERR_INVALID, "%s: not a namespace: '%s'", r->kind, ns);
            return NULL;
        }
        buf_addf(&b, "/namespaces/%s", ns);
    }
    buf_addf(&b, "/%s", r->plural);
    if (name) {
        if (!segment_ok(name)) {
            err_set(err, ERR_INVALID, "%s: not a name: '%s'", r->kind, name);
            return NULL;
        }
        buf_addf(&b, "/%s", name);
    }
    if (name && sub)
        buf_addf(&b, "/%s", sub);
    char *path = buf_take(&b, NULL);
    if (!path)
        err_set(err, ERR_NOMEM, "%s path", r->kind);
    return path;
}

void kube_query_add(struct buf *query, const char *key, const char *value)
{
    static const char hex[] = "0123456789ABCDEF";
    if (buf_len(query))
        buf_add_char(query, '&');
    buf_add_str(query, key);
    buf_add_char(query, '=');
    for (const char *p = value; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~';
        if (plain) {
            buf_add_char(query, (char)c);
        } else {
            char esc[3] = {'%', hex[c >> 4], hex[c & 15]};
            buf_add(query, esc, sizeof esc);
        }
    }
}

const char *kube_meta(const json_t *obj, const char *field)
{
    const char *s = json_string_value(json_object_get(json_object_get(obj, "metadata"), field));
    return s ? s : "";
}

int64_t kube_generation(const json_t *obj)
{
    return json_integer_value(json_object_get(json_object_get(obj, "metadata"), "generation"));
}

bool kube_key_make(const char *ns, const char *name, struct kube_key *ret)
{
    int n = ns && *ns ? snprintf(ret->text, sizeof ret->text, "%s/%s", ns, name)
                      : snprintf(ret->text, sizeof ret->text, "%s", name);
    return n > 0 && (size_t)n < sizeof ret->text;
}

void kube_key_split(struct slice key, struct slice *ret_ns, struct slice *ret_name)
{
    ptrdiff_t at = slice_chr(key, '/');
    *ret_ns = at < 0 ? slice_of(key.p, 0) : slice_head(key, (size_t)at);
    *ret_name = at < 0 ? key : slice_skip(key, (size_t)at + 1);
}

void kube_micro_time(int64_t wall_ns, char ret[KUBE_MICRO_TIME])
{
    char s[32];
    clock_rfc3339(wall_ns, 1, s); /* "2026-08-01T10:20:30Z" */
    snprintf(ret, KUBE_MICRO_TIME, "%.19s.%06dZ", s, (int)(wall_ns % NS_PER_S / NS_PER_US));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets that hold certificates, under the names that kubernetes.io/tls, cert-manager and Istio's
 * generic Secrets use. Of others nothing is kept. Memory is overwritten before it is given back. */
#include <stdio.h>
#include <string.h>

#include "lib/data/base64.h"
#include "mesh/api/read.h"
#include "mesh/index/index_int.h"

#define SECRET_CAP ((size_t)2 << 20)

void secret_free(struct index *x, struct ix_secret *s)
{
    if (!s)
        return;
    intern_drop(&x->names, s->ns);
    intern_drop(&x->names, s->name);
    arena_wipe(&s->arena);
    arena_fini(&s->arena);
    mem_free(s);
}

static int decoded(struct ix_secret *s, struct slice text, struct slice *ret)
{
    struct buf b;
    enum err_code rc;

    buf_init(&b, SECRET_CAP);
    if (!buf_reserve(&b, text.len)) { /* one block, so that no part stays behind when it grows */
        buf_fini(&b);
        return -1;
    }
    rc = base64_decode(text, BASE64_STD, &b);
    if (rc == ERR_OK && buf_len(&b))
        *ret = arena_slice(&s->arena, buf_slice(&b));
    explicit_bzero(b.p, b.cap);
    s->broken |= rc == ERR_INVALID;
    rc = rc == ERR_NOMEM || (buf_len(&b) && rc == ERR_OK && !ret->p) ? ERR_NOMEM : ERR_OK;
    buf_fini(&b);
    return rc == ERR_OK ? 0 : -1;
}

/* The first of two keys that is there; `data` is base64, `stringData` (files of a folder) is not.
 */
static int value(struct ix_secret *s, const json_t *obj, const char *first, const char *second,
                 struct slice *ret)
{
    const char *const names[] = {first, second};

    for (size_t i = 0; i < N_OF(names); i++) {
        const json_t *plain = json_object_get(json_object_get(obj, "stringData"), names[i]);
        const json_t *coded = json_object_get(json_object_get(obj, "data"), names[i]);

        if (json_is_string(plain)) {
            *ret = arena_slice(&s->arena,
                               slice_of(json_string_value(plain), json_string_length(plain)));
            return ret->p ? 0 : -1;
        }
        if (json_is_string(coded)) {
            return decoded(s, slice_of(json_string_value(coded), json_string_length(coded)), ret);
        }
    }
    return 0;
}

static bool same(const struct ix_secret *a, const struct ix_secret *b)
{
    return slice_eq(a->chain, b->chain) && slice_eq(a->key, b->key) &&
           slice_eq(a->roots, b->roots) && slice_eq(a->crl, b->crl) &&
           slice_eq(a->revision, b->revision) && a->broken == b->broken;
}

static struct ix_secret *secret_make(struct index *x, const json_t *obj, const json_t *meta)
{
    struct ix_secret *s = mem_zalloc(sizeof *s);
    const json_t *revision = json_object_get(meta, "resourceVersion");
    char number[32];
    bool none = false;

    if (!s)
        return NULL;
    arena_init(&s->arena, 1024, SECRET_CAP);
    s->ns = intern_text(&x->names, slice_str(json_string_value(json_object_get(meta, "namespace"))),
                        &none);
    s->name =
        intern_text(&x->names, slice_str(json_string_value(json_object_get(meta, "name"))), &none);
    /* Files have no version, but the count of their changes. */
    snprintf(number, sizeof number, "%lld",
             (long long)json_integer_value(json_object_get(meta, "generation")));
    s->revision =
        arena_slice(&s->arena, json_is_string(revision) ? slice_str(json_string_value(revision))
                                                        : slice_str(number));
    if (none || !s->name || !s->ns || !s->revision.p ||
        value(s, obj, "cert", "tls.crt", &s->chain) < 0 ||
        value(s, obj, "key", "tls.key", &s->key) < 0 ||
        value(s, obj, "cacert", "ca.crt", &s->roots) < 0 ||
        value(s, obj, "crl", "ca.crl", &s->crl) < 0) {
        secret_free(x, s);
        return NULL;
    }
    return s;
}

static struct ix_secret *find(const struct index *x, struct slice ns, struct slice name)
{
    struct ix_secret *s;

    for (uint32_t i = iset_first(&x->secrets, pair_hash(text_hash(ns), text_hash(name)));
         (s = iset_at(&x->secrets, i)); i++)
        if (slice_eq(istr_slice(s->name), name) && slice_eq(istr_slice(s->ns), ns))
            return s;
    return NULL;
}

const struct ix_secret *index_secret(const struct index *x, struct slice ns, struct slice name)
{
    return find(x, ns, name);
}

int put_secret(struct index *x, const json_t *obj, struct index_changes *c, struct err *err)
{
    const json_t *meta = json_object_get(obj, "metadata");
    struct ix_secret *s, *old;

    if (!json_is_string(json_object_get(meta, "name")) ||
        !json_is_string(json_object_get(meta, "namespace")))
        return put_not_a(err, "Secret");
    s = secret_make(x, obj, meta);
    if (!s || iset_reserve(&x->secrets) < 0) {
        secret_free(x, s);
        return put_nomem(err, "Secret");
    }
    old = find(x, istr_slice(s->ns), istr_slice(s->name));
    if (old && same(old, s)) {
        secret_free(x, s);
        return 0;
    }
    if (!s->chain.len && !s->key.len && !s->roots.len && !s->broken) { /* holds something else */
        if (old)
            remove_secret(x, istr_slice(s->ns), istr_slice(s->name), c);
        secret_free(x, s);
        return 0;
    }
    if (old) {
        iset_del(&x->secrets, old);
        secret_free(x, old);
    }
    iset_add(&x->secrets, s);
    note(c, INDEX_TOKEN_SECRET(istr_slice(s->ns), istr_slice(s->name)));
    return 0;
}

bool remove_secret(struct index *x, struct slice ns, struct slice name, struct index_changes *c)
{
    struct ix_secret *s = find(x, ns, name);

    if (!s)
        return false;
    note(c, INDEX_TOKEN_SECRET(ns, name));
    iset_del(&x->secrets, s);
    secret_free(x, s);
    return true;
}

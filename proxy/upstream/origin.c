/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/upstream/origin.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/cleanup.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/cidr.h"
#include "proxy/pemfile.h"

enum { FILES = 4, CONTEXTS_MAX = 64 };

struct context {
    struct context *next;
    struct hash128 id;
    uint64_t secret; /* hash of the Secret's key; 0: of files */
    struct tls_ctx *tls;
    struct pemfile_stamp stamps[FILES];
    int64_t looked_ns, used_ns;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for what follows */
static struct context *contexts;
struct secret {
    struct secret *next;
    const struct prog_credential *cred; /* counted */
};
static struct secret *secrets;

static uint64_t secret_mark(struct slice key)
{
    return hash64(key, 1) | 1;
}

/* Under the lock; NULL when it is not known (yet). */
static const struct prog_credential *secret_find(struct slice key)
{
    for (const struct secret *s = secrets; s; s = s->next)
        if (slice_eq(s->cred->prog.key, key))
            return s->cred;
    return NULL;
}

struct prog_credential *origin_secret(struct slice key)
{
    pthread_mutex_lock(&lock);
    const struct prog_credential *c = secret_find(key);
    struct prog_credential *ret = c ? prog_ref(c) : NULL;
    pthread_mutex_unlock(&lock);
    return ret;
}

/* Where systems keep the roots that they trust. */
static const char *system_roots(void)
{
    static const char *const paths[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt",
                                        "/etc/ssl/ca-bundle.pem",
                                        "/etc/pki/tls/cacert.pem",
                                        "/etc/ssl/cert.pem",
                                        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"};
    const char *named = getenv("SSL_CERT_FILE");
    for (size_t i = 0; !named && i < N_OF(paths); i++)
        if (access(paths[i], R_OK) == 0)
            return paths[i];
    return named ? named : paths[0];
}

/* The files of a context, as C strings in the arena; "" for none. */
struct files {
    const char *path[FILES]; /* certificate, key, roots, revocation list */
};

static int files_of(const struct prog_origin *o, struct arena *a, struct files *ret)
{
    static const struct prog_origin none;
    o = o ? o : &none;
    struct slice s[FILES] = {o->certificate, o->key, o->roots, o->crl};
    for (int i = 0; i < FILES; i++) {
        ret->path[i] = s[i].len ? arena_strndup(a, s[i].p, s[i].len) : "";
        if (!ret->path[i])
            return -1;
    }
    if (!s[2].len && !o->no_verify && !o->credential.len)
        ret->path[2] = system_roots();
    return 0;
}

/* Of a Secret; without roots in it the system's hold. */
static int secret_texts(const struct prog_origin *o, struct slice ret[FILES], bool *ret_own_roots,
                        struct err *err)
{
    const struct prog_credential *c = secret_find(o->credential);
    if (!c)
        return err_set(err, ERR_UNAVAILABLE, "Secret %.*s is not known (yet)",
                       SL_FMT(o->credential));
    ret[0] = c->chain_pem;
    ret[1] = c->key_pem;
    ret[2] = c->roots_pem;
    ret[3] = o->no_verify ? SLICE_NULL : c->crl_pem;
    *ret_own_roots = c->roots_pem.len || o->no_verify;
    return 0;
}

static void stamps_take(const struct files *f, struct pemfile_stamp ret[FILES])
{
    for (int i = 0; i < FILES; i++)
        ret[i] = pemfile_stamp(f->path[i]);
}

static int build(const struct files *f, const struct prog_origin *o, enum up_alpn alpn,
                 struct tls_ctx **ret, struct err *err)
{
    static const char *const http1[] = {"http/1.1", NULL}, *const http2[] = {"h2", NULL};
    struct slice text[FILES] = {SLICE_NULL}, read_in[FILES] = {SLICE_NULL};
    bool own_roots = true;
    int rc = o && o->credential.len ? secret_texts(o, text, &own_roots, err) : 0;
    for (int i = 0; i < FILES && rc == 0; i++)
        if (f->path[i][0])
            rc = pemfile_read(f->path[i], &read_in[i], err);
    if (rc == 0 && !own_roots)
        rc = pemfile_read(system_roots(), &read_in[2], err);
    for (int i = 0; i < FILES; i++)
        if (read_in[i].p)
            text[i] = read_in[i];
    struct tls_ctx_opts opts = {
        .identity = {text[0], text[1]},
        .roots_pem = text[2],
        .crl_pem = text[3],
        .verify_peer = !o || !o->no_verify,
        .alpn = alpn == UP_ALPN_HTTP1 ? http1 : alpn == UP_ALPN_HTTP2 ? http2 : NULL,
        .tls12 = true,
        .resume = true,
    };
    if (rc == 0)
        rc = tls_ctx_new(&opts, ret, err);
    for (int i = 0; i < FILES; i++)
        pemfile_wipe(read_in[i]);
    if (rc < 0)
        err->code = err->code == ERR_NOMEM ? ERR_NOMEM : ERR_UNAVAILABLE;
    return rc;
}

static bool id_of(const struct files *f, const struct prog_origin *o, enum up_alpn alpn,
                  struct hash128 *ret)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, 64 * 1024);
    buf_addf(&b, "%d %d", (int)alpn, o && o->no_verify);
    for (int i = 0; i < FILES; i++)
        buf_addf(&b, " %zu:%s", strlen(f->path[i]), f->path[i]);
    if (o && o->credential.len)
        buf_addf(&b, " secret %.*s", SL_FMT(o->credential));
    *ret = hash128(buf_slice(&b));
    return buf_err(&b) == ERR_OK;
}

static void context_free(struct context *c)
{
    tls_ctx_unref(c->tls);
    mem_free(c);
}

/* Make room for another one: the longest unused goes. Connections keep what they began with. */
static void evict(void)
{
    struct context **oldest = &contexts;
    size_t n = 0;
    for (struct context **p = &contexts; *p; p = &(*p)->next, n++)
        if ((*p)->used_ns < (*oldest)->used_ns)
            oldest = p;
    if (n < CONTEXTS_MAX)
        return;
    struct context *c = *oldest;
    *oldest = c->next;
    context_free(c);
}

/* Look whether the files have changed, and take what is in them now. */
static void refresh(struct context *c, const struct files *f, const struct prog_origin *o,
                    enum up_alpn alpn, int64_t now_ns)
{
    struct pemfile_stamp now[FILES];
    struct tls_ctx *tls;
    struct err err = {0};
    c->looked_ns = now_ns;
    stamps_take(f, now);
    if (memcmp(now, c->stamps, sizeof now) == 0)
        return;
    if (build(f, o, alpn, &tls, &err) < 0) {
        LOG(WARN, "Changed TLS files cannot be used; the old ones stay", "error=%s", err.msg);
        return;
    }
    memcpy(c->stamps, now, sizeof now);
    tls_ctx_unref(c->tls);
    c->tls = tls;
}

static int context_new(const struct files *f, const struct prog_origin *o, enum up_alpn alpn,
                       int64_t now_ns, struct context **ret, struct err *err)
{
    struct context *c = mem_zalloc(sizeof *c);
    if (!c)
        return err_set(err, ERR_NOMEM, "TLS context");
    stamps_take(f, c->stamps); /* before reading: a change meanwhile is seen at the next look */
    c->looked_ns = now_ns;
    if (build(f, o, alpn, &c->tls, err) < 0) {
        mem_free(c);
        return -1;
    }
    c->secret = o && o->credential.len ? secret_mark(o->credential) : 0;
    evict();
    c->next = contexts;
    contexts = c;
    *ret = c;
    return 0;
}

int origin_ctx(const struct prog_origin *o, enum up_alpn alpn, int64_t now_ns, struct tls_ctx **ret,
               struct err *err)
{
    CLEANUP(arena_free) struct arena a = ARENA_INIT;
    struct hash128 id;
    struct files f;
    int rc = 0;
    if (files_of(o, &a, &f) < 0 || !id_of(&f, o, alpn, &id))
        return err_set(err, ERR_NOMEM, "TLS context");
    pthread_mutex_lock(&lock);
    struct context *c = contexts;
    while (c && (c->id.lo != id.lo || c->id.hi != id.hi))
        c = c->next;
    if (!c)
        rc = context_new(&f, o, alpn, now_ns, &c, err);
    else if (now_ns - c->looked_ns >= PEMFILE_LOOK_S * NS_PER_S)
        refresh(c, &f, o, alpn, now_ns);
    if (rc == 0) {
        c->id = id;
        c->used_ns = now_ns;
        *ret = tls_ctx_ref(c->tls);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

void origin_credential(struct slice key, const struct prog_credential *cred)
{
    struct secret *fresh = cred ? mem_zalloc(sizeof *fresh) : NULL;
    pthread_mutex_lock(&lock);
    for (struct secret **p = &secrets; *p; p = &(*p)->next)
        if (slice_eq((*p)->cred->prog.key, key)) {
            struct secret *old = *p;
            *p = old->next;
            prog_unref(old->cred);
            mem_free(old);
            break;
        }
    for (struct context **p = &contexts; *p;) {
        struct context *c = *p;
        if (c->secret != secret_mark(key)) {
            p = &c->next;
            continue;
        }
        *p = c->next;
        context_free(c);
    }
    if (fresh) {
        fresh->cred = prog_ref(cred);
        fresh->next = secrets;
        secrets = fresh;
    }
    pthread_mutex_unlock(&lock);
    if (cred && !fresh)
        LOG(ERROR, "Out of memory for a certificate", "secret=%.*s", SL_FMT(key));
}

int origin_opts(const struct prog_cluster *c, char *sni, size_t cap, struct tls_conn_opts *ret,
                struct err *err)
{
    const struct prog_origin *o = PROG_POLICY(c, origin);
    struct ipaddr ip;
    bool named = slice_copy(c->sni, sni, cap) && sni[0];
    *ret = (struct tls_conn_opts){0};
    if (named && !ip_parse(c->sni, &ip)) /* an address is no server name (RFC 6066 3) */
        ret->sni = sni;
    if (o && o->no_verify)
        return 0;
    if (c->subject_alt_names.n) {
        ret->sans = c->subject_alt_names.p;
        ret->n_sans = c->subject_alt_names.n;
    } else if (named) {
        ret->verify_host = sni;
    } else {
        return err_set(err, ERR_INVALID,
                       "tls: the server's name is not known: set sni or subjectAltNames");
    }
    return 0;
}

size_t origin_contexts(void)
{
    size_t n = 0;
    pthread_mutex_lock(&lock);
    for (const struct context *c = contexts; c; c = c->next)
        n++;
    pthread_mutex_unlock(&lock);
    return n;
}

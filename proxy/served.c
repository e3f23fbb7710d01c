/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/served.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/base/hash.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/control.h"
#include "proxy/pemfile.h"
#include "proxy/upstream/origin.h"

enum { FILES = 2 * SERVED_CERTS + 2, CONTEXTS_MAX = 64 };

struct served {
    struct served *next;
    struct hash128 id;
    struct tls_ctx *tls; /* NULL: it could not be made yet */
    struct pemfile_stamp stamps[FILES];
    uint64_t secrets;    /* what the versions of its Secrets were at the last try */
    int64_t tried_ns, used_ns;
    char why[160];       /* of the last try; "": it went well */
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for what follows */
static struct served *list;

/* --- a context from texts ---------------------------------------------------------------------------- */

int served_build(const struct prog_gate *g, const struct served_texts *t, struct tls_ctx **ret,
                 struct err *err)
{
    static const char *const http[] = {"h2", "http/1.1", NULL};
    bool clients = g->tls == PROG_GATE_MUTUAL || g->tls == PROG_GATE_OPTIONAL_MUTUAL;
    struct buf ciphers;
    buf_init(&ciphers, 4096);
    for (uint32_t i = 0; i < g->ciphers.n; i++)
        buf_addf(&ciphers, "%s%.*s", i ? ":" : "", SL_FMT(g->ciphers.p[i]));
    buf_add_char(&ciphers, '\0');
    struct tls_ctx_opts o = {
        .server = true,
        .identity = t->certs[0],
        .others = &t->certs[1],
        .n_others = t->n_certs ? t->n_certs - 1 : 0,
        .roots_pem = clients ? t->roots : SLICE_NULL,
        .crl_pem = clients ? t->crl : SLICE_NULL,
        .verify_peer = clients,
        .peer_optional = g->tls == PROG_GATE_OPTIONAL_MUTUAL,
        .peer_names = g->subject_alt_names.p,
        .n_peer_names = clients ? g->subject_alt_names.n : 0,
        .peer_hashes = g->hashes.p,
        .n_peer_hashes = clients ? g->hashes.n : 0,
        .peer_keys = g->keys.p,
        .n_peer_keys = clients ? g->keys.n : 0,
        .alpn = g->http ? http : NULL,
        .min_version = g->min_version,
        .max_version = g->max_version,
        .ciphers = g->ciphers.n && buf_err(&ciphers) == ERR_OK ? ciphers.p : NULL,
        .resume = true,
    };
    int rc = buf_err(&ciphers) == ERR_OK ? tls_ctx_new(&o, ret, err)
                                         : err_set(err, ERR_LIMIT, "list of ciphers");
    buf_fini(&ciphers);
    return rc;
}

/* --- what a gate's is made of ------------------------------------------------------------------------ */

struct sources {
    struct arena a;
    const char *path[FILES];                         /* certificate, key, ...; roots, revocation list; "" */
    struct prog_credential *creds[SERVED_CERTS + 1]; /* counted; the last one's roots verify clients */
    uint64_t secrets;
};

static void sources_drop(struct sources *s)
{
    for (size_t i = 0; i < N_OF(s->creds); i++)
        prog_unref(s->creds[i]);
    arena_fini(&s->a);
}

static bool path_set(struct sources *s, int i, struct slice path)
{
    s->path[i] = path.len ? arena_strndup(&s->a, path.p, path.len) : "";
    return s->path[i] != NULL;
}

static void secret_set(struct sources *s, size_t i, struct slice key)
{
    s->creds[i] = key.len ? origin_secret(key) : NULL;
    s->secrets = hash64(s->creds[i] ? s->creds[i]->prog.version : SLICE_NULL, s->secrets + i);
}

static int sources_of(const struct prog_gate *g, struct sources *ret)
{
    bool good = true;
    *ret = (struct sources){.a = ARENA_INIT};
    for (uint32_t i = 0; i < SERVED_CERTS; i++) {
        good = path_set(ret, (int)(2 * i), i < g->n_files ? g->files[i].certificate : SLICE_NULL) &&
               path_set(ret, (int)(2 * i + 1), i < g->n_files ? g->files[i].key : SLICE_NULL) && good;
        secret_set(ret, i, i < g->credentials.n ? g->credentials.p[i] : SLICE_NULL);
    }
    secret_set(ret, SERVED_CERTS, g->ca_credential);
    good = path_set(ret, FILES - 2, g->roots_file) && path_set(ret, FILES - 1, g->crl_file) && good;
    return good ? 0 : -1;
}

static bool id_of(const struct prog_gate *g, struct hash128 *ret)
{
    CLEANUP(buf_freep) struct buf b;
    const struct prog_strings *lists[] = {&g->credentials, &g->subject_alt_names, &g->ciphers,
                                          &g->hashes, &g->keys};
    const struct slice texts[] = {g->name, g->ca_credential, g->roots_file, g->crl_file};
    buf_init(&b, 64 * 1024);
    buf_addf(&b, "%d %d %u %u", (int)g->tls, g->http, g->min_version, g->max_version);
    for (size_t i = 0; i < N_OF(texts); i++)
        buf_addf(&b, " %zu:%.*s", texts[i].len, SL_FMT(texts[i]));
    for (size_t i = 0; i < N_OF(lists); i++) {
        buf_addf(&b, " %u", lists[i]->n);
        for (uint32_t k = 0; k < lists[i]->n; k++) {
            buf_addf(&b, " %zu:", lists[i]->p[k].len);
            buf_add_slice(&b, lists[i]->p[k]);
        }
    }
    for (uint32_t i = 0; i < g->n_files; i++)
        buf_addf(&b, " %zu:%.*s %zu:%.*s", g->files[i].certificate.len,
                 SL_FMT(g->files[i].certificate), g->files[i].key.len, SL_FMT(g->files[i].key));
    *ret = hash128(buf_slice(&b));
    return buf_err(&b) == ERR_OK;
}

static int from_files(const struct prog_gate *g, const struct sources *s, struct slice text[FILES],
                      struct served_texts *t, struct err *err)
{
    for (int i = 0; i < FILES; i++)
        if (s->path[i][0] && pemfile_read(s->path[i], &text[i], err) < 0)
            return -1;
    for (uint32_t i = 0; i < g->n_files && i < SERVED_CERTS; i++)
        t->certs[t->n_certs++] = (struct tls_identity){text[2 * i], text[2 * i + 1]};
    t->roots = text[FILES - 2];
    t->crl = text[FILES - 1];
    return 0;
}

static int from_secrets(const struct prog_gate *g, const struct sources *s, struct served_texts *t,
                        struct err *err)
{
    for (uint32_t i = 0; i < g->credentials.n && i < SERVED_CERTS; i++) {
        if (!s->creds[i] || !s->creds[i]->chain_pem.len)
            return err_set(err, ERR_UNAVAILABLE, "Secret %.*s %s", SL_FMT(g->credentials.p[i]),
                           s->creds[i] ? "has no certificate" : "is not known (yet)");
        t->certs[t->n_certs++] =
            (struct tls_identity){s->creds[i]->chain_pem, s->creds[i]->key_pem};
    }
    t->roots = s->creds[0] ? s->creds[0]->roots_pem : SLICE_NULL;
    t->crl = s->creds[0] ? s->creds[0]->crl_pem : SLICE_NULL;
    return 0;
}

static int build(const struct prog_gate *g, const struct sources *s, struct tls_ctx **ret,
                 struct err *err)
{
    struct slice text[FILES] = {SLICE_NULL};
    struct served_texts t = {0};
    const struct prog_credential *ca = s->creds[SERVED_CERTS];
    int rc = g->n_files ? from_files(g, s, text, &t, err) : from_secrets(g, s, &t, err);
    if (rc == 0 && g->ca_credential.len && !ca)
        rc = err_set(err, ERR_UNAVAILABLE, "Secret %.*s is not known (yet)",
                     SL_FMT(g->ca_credential));
    if (ca) {
        t.roots = ca->roots_pem;
        t.crl = ca->crl_pem.len ? ca->crl_pem : t.crl;
    }
    if (rc == 0)
        rc = served_build(g, &t, ret, err);
    for (int i = 0; i < FILES; i++)
        pemfile_wipe(text[i]);
    return rc;
}

/* --- contexts that are kept -------------------------------------------------------------------------- */

static void served_free(struct served *s)
{
    tls_ctx_unref(s->tls);
    mem_free(s);
}

/* Room for another one: the longest unused goes. Connections keep what they began with. */
static struct served *served_new(const struct hash128 *id)
{
    struct served **oldest = &list, *s = mem_zalloc(sizeof *s);
    size_t n = 0;
    for (struct served **p = &list; *p; p = &(*p)->next, n++)
        if ((*p)->used_ns < (*oldest)->used_ns)
            oldest = p;
    if (s && n >= CONTEXTS_MAX) {
        struct served *gone = *oldest;
        *oldest = gone->next;
        served_free(gone);
    }
    if (!s)
        return NULL;
    s->id = *id;
    s->next = list;
    list = s;
    return s;
}

/* Take what its files and Secrets hold now, if that is something else. */
static void renew(struct served *s, const struct prog_gate *g, const struct sources *from,
                  int64_t now_ns)
{
    struct pemfile_stamp now[FILES];
    struct tls_ctx *tls;
    struct err err = {0};
    bool same = s->secrets == from->secrets;
    for (int i = 0; i < FILES; i++)
        now[i] = pemfile_stamp(from->path[i]);
    s->tried_ns = now_ns;
    s->secrets = from->secrets;
    if (same && s->tls && !s->why[0] && memcmp(now, s->stamps, sizeof now) == 0)
        return;
    if (build(g, from, &tls, &err) < 0) {
        snprintf(s->why, sizeof s->why, "%.150s", err.msg);
        LOG(ERROR, "Certificate cannot be used", "gate=%.*s old_one_stays=%d reason=%s",
            SL_FMT(g->name), s->tls != NULL, err.msg);
        return;
    }
    LOG(INFO, "Certificate in use", "gate=%.*s", SL_FMT(g->name));
    memcpy(s->stamps, now, sizeof now);
    s->why[0] = '\0';
    tls_ctx_unref(s->tls);
    s->tls = tls;
}

int served_ctx(const struct prog_gate *g, int64_t now_ns, struct tls_ctx **ret, struct err *err)
{
    CLEANUP(sources_drop) struct sources from = {.a = ARENA_INIT};
    struct hash128 id;
    int rc = -1;
    if (sources_of(g, &from) < 0 || !id_of(g, &id))
        return err_set(err, ERR_NOMEM, "TLS context");
    pthread_mutex_lock(&lock);
    struct served *s = list;
    while (s && (s->id.lo != id.lo || s->id.hi != id.hi))
        s = s->next;
    bool fresh = !s;
    if (!s)
        s = served_new(&id);
    bool late = s && now_ns - s->tried_ns >= PEMFILE_LOOK_S * NS_PER_S && (g->n_files || s->why[0]);
    if (s && (fresh || late || s->secrets != from.secrets))
        renew(s, g, &from, now_ns);
    if (s && s->tls) {
        s->used_ns = now_ns;
        *ret = tls_ctx_ref(s->tls);
        rc = 0;
    } else {
        err_set(err, s ? ERR_UNAVAILABLE : ERR_NOMEM, "%s", s ? s->why : "TLS context");
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static bool wanted(const struct prog_inbound *in, const struct served *s)
{
    struct hash128 id;
    for (uint32_t i = 0; i < in->n_ports; i++)
        if (in->ports[i].tls && id_of(in->ports[i].tls, &id) && id.lo == s->id.lo &&
            id.hi == s->id.hi)
            return true;
    return false;
}

void served_keep(const struct prog_inbound *in)
{
    pthread_mutex_lock(&lock);
    for (struct served **p = &list; *p;) {
        struct served *s = *p;
        if (wanted(in, s)) {
            p = &s->next;
            continue;
        }
        *p = s->next;
        served_free(s);
    }
    pthread_mutex_unlock(&lock);
}

/* --- judging ----------------------------------------------------------------------------------------- */

/* A Secret is judged by itself, since it may be on its way while the port is known. */
int served_judge_gate(const struct control *c, const struct prog_gate *g, struct err *err)
{
    struct tls_ctx *ctx = NULL;
    if (!served_by_files(g) || !prog_gate_ends_tls(g->tls))
        return 0;
    if (served_ctx(g, loop_now(c->loop), &ctx, err) < 0)
        return -1;
    tls_ctx_unref(ctx);
    return 0;
}

static int judge_credential(const struct prog_credential *own, struct err *err)
{
    const struct prog_gate any = {.tls = PROG_GATE_SIMPLE, .min_version = 12, .max_version = 13};
    struct served_texts t = {.certs = {{own->chain_pem, own->key_pem}}, .n_certs = 1};
    struct tls_ctx *ctx = NULL;
    if (served_build(&any, &t, &ctx, err) < 0)
        return -1;
    tls_ctx_unref(ctx);
    return 0;
}

int served_judge(const struct control *c, enum prog_kind kind, struct slice key, struct err *err)
{
    const struct known *k =
        kind == PROG_CREDENTIAL || kind == PROG_INBOUND ? control_find(c, kind, key) : NULL;
    if (!k || !k->prog)
        return 0;
    if (kind == PROG_CREDENTIAL) {
        const struct prog_credential *own = (const struct prog_credential *)k->prog;
        return own->chain_pem.len && own->key_pem.len ? judge_credential(own, err) : 0;
    }
    const struct prog_inbound *in = (const struct prog_inbound *)k->prog;
    for (uint32_t i = 0; i < in->n_ports; i++)
        if (in->ports[i].tls && served_judge_gate(c, in->ports[i].tls, err) < 0)
            return -1;
    return 0;
}

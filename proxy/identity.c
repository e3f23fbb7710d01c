/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <unistd.h>

#include "istio/v1/auth/ca.pb-c.h"
#include "lib/base/cleanup.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/http/grpc.h"
#include "lib/tls/tls.h"
#include "lib/tls/x509.h"
#include "proxy/down.h"
#include "proxy/resolve.h"
#include "proxy/worker.h"

#define CA_PATH "/istio.v1.auth.IstioCertificateService/CreateCertificate"
#define RETRY_FIRST_NS (250 * NS_PER_MS)
#define RETRY_MAX_NS (15 * NS_PER_S)
#define CALL_TIMEOUT_NS (10 * NS_PER_S)
enum { FILE_MAX = 256 * 1024 };

struct identity {
    struct identity_opts opts;
    char *key, *chain, *roots;    /* PEM in force; key is wiped */
    char *next_key;               /* of the request under way */
    struct tls_ctx *server, *client, *control_plane;
    int64_t not_before_ns, not_after_ns; /* civil */
    uint32_t issuer;              /* of the certificate */
    uint32_t wanted, within_s;    /* the issuer that everybody should have, and how soon */
    char *mounted;                /* trust anchors as kubelet has them, while `roots` fail */
    struct loop_timer timer;
    int64_t backoff_ns;
    char problem[224];
    struct grpc_conn *conn;
    bool answered;
};

/* --- files ---------------------------------------------------------------------------------------- */

static int read_file(const char *path, char **ret, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, errno, "%s", path);
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, FILE_MAX);
    for (;;) {
        char *p = buf_reserve(&b, 4096);
        ssize_t n = p ? read(fd, p, 4096) : -1;
        if (n < 0) {
            err_errno(err, p ? errno : ENOMEM, "%s", path);
            close(fd);
            return -1;
        }
        if (n == 0)
            break;
        buf_commit(&b, (size_t)n);
    }
    close(fd);
    *ret = buf_take(&b, NULL);
    return *ret ? 0 : err_set(err, ERR_NOMEM, "%s", path);
}

/* --- contexts --------------------------------------------------------------------------------------- */

/* What a client says here is what it will speak; the sniffer goes by what it offers (sniff.c). */
static const char *const alpn_server[] = {TULLE_SHARED_ALPN, "istio-h2", "istio-http/1.1",
                                          "istio-http/1.0",  "istio",    NULL};
static const char *const alpn_h2[] = {"h2", NULL};

struct contexts {
    struct tls_ctx *server, *client, *control_plane;
};

static void contexts_drop(struct contexts *c)
{
    tls_ctx_unref(c->server);
    tls_ctx_unref(c->client);
    tls_ctx_unref(c->control_plane);
    *c = (struct contexts){0};
}

static int control_plane_make(const char *key, const char *chain, const char *roots,
                              struct tls_ctx **ret, struct err *err)
{
    struct tls_ctx_opts o = {
        .identity = {slice_str(chain), slice_str(key)},
        .roots_pem = slice_str(roots),
        .verify_peer = true,
        .alpn = alpn_h2,
    };
    return tls_ctx_new(&o, ret, err);
}

/* The contexts that a key, a chain and trust anchors make; key NULL: only the control plane's, without
 * a client certificate. */
static int contexts_make(const char *key, const char *chain, const char *roots,
                         struct contexts *ret, struct err *err)
{
    struct contexts c = {0};
    struct tls_ctx_opts o = {
        .identity = {slice_str(chain), slice_str(key)},
        .roots_pem = slice_str(roots),
        .verify_peer = true,
    };
    if (control_plane_make(key, chain, roots, &c.control_plane, err) < 0)
        goto fail;
    if (key) {
        o.spiffe = true;
        o.resume = true;
        o.alpn = NULL; /* each connection has its own (upstream/dial.c) */
        if (tls_ctx_new(&o, &c.client, err) < 0)
            goto fail;
        o.server = true;
        o.alpn = alpn_server;
        if (tls_ctx_new(&o, &c.server, err) < 0)
            goto fail;
    }
    *ret = c;
    return 0;
fail:
    contexts_drop(&c);
    return -1;
}

struct tls_mail {
    struct mail mail;
    struct tls_ctx *server, *client;
};

static void deliver_tls(struct mail *m, void *receiver)
{
    struct tls_mail *t = CONTAINER_OF(m, struct tls_mail, mail);
    worker_set_tls(receiver, t->server, t->client);
    mem_free(t);
}

static void tell_workers(struct identity *id)
{
    struct control *c = id->opts.control;
    for (unsigned i = 0; i < c->n_workers && id->server; i++) {
        struct tls_mail *t = mem_zalloc(sizeof *t);
        if (!t) {
            LOG(ERROR, "Out of memory: a worker keeps its old certificate", "worker=%u", i);
            continue;
        }
        *t = (struct tls_mail){
            .mail.deliver = deliver_tls,
            .server = tls_ctx_ref(id->server),
            .client = tls_ctx_ref(id->client),
        };
        mailbox_send(&c->workers[i]->mailbox, &t->mail);
    }
}

/* Put new material in force; takes `key`, `chain` and `roots` on success. */
static int install(struct identity *id, char *key, char *chain, char *roots, struct err *err)
{
    struct contexts c;
    struct x509_cert_info info = {0};
    if (chain && x509_cert_info(slice_str(chain), &info, err) < 0)
        return err_wrap(err, "workload certificate");
    if (contexts_make(key, chain, roots, &c, err) < 0)
        return -1;
    struct contexts old = {id->server, id->client, id->control_plane};
    contexts_drop(&old);
    id->server = c.server;
    id->client = c.client;
    id->control_plane = c.control_plane;
    mem_free(id->mounted);
    id->mounted = NULL;
    if (key != id->key)
        tls_pem_free(id->key);
    if (chain != id->chain)
        mem_free(id->chain);
    if (roots != id->roots)
        mem_free(id->roots);
    id->key = key;
    id->chain = chain;
    id->roots = roots;
    id->not_before_ns = info.not_before_ns;
    id->not_after_ns = info.not_after_ns;
    id->issuer = chain ? info.issuer_key_id : 0;
    tell_workers(id);
    return 0;
}

/* --- asking the CA ------------------------------------------------------------------------------------ */

static void ask(struct identity *id);

static void ask_again(struct loop_timer *t)
{
    ask(CONTAINER_OF(t, struct identity, timer));
}

static void ask_failed(struct identity *id, const char *why)
{
    struct loop *loop = id->opts.control->loop;
    slice_copy(slice_head(slice_str(why), sizeof id->problem - 1), id->problem, sizeof id->problem);
    tls_pem_free(id->next_key);
    id->next_key = NULL;
    int64_t wait = rnd_jitter(loop_rnd(loop), id->backoff_ns, 0.5);
    id->backoff_ns = MIN(id->backoff_ns * 2, RETRY_MAX_NS);
    LOG(WARN, "No certificate from the CA yet", "reason=%s retry_in_ms=%lld", why,
        (long long)(wait / NS_PER_MS));
    loop_timer_in(loop, &id->timer, wait, ask_again);
}

/* At half of its life, a tenth of that sooner or later, so that a fleet does not come at once. */
static void plan_renewal(struct identity *id)
{
    struct loop *loop = id->opts.control->loop;
    int64_t left = id->not_after_ns - loop_wall(loop), life = id->not_after_ns - id->not_before_ns;
    if (left <= 0 || left > life) { /* this clock or the CA's is wrong: its length alone counts */
        LOG(WARN, "The certificate is not of now by this node's clock: is it right?",
            "off_s=%lld", (long long)((left <= 0 ? left : left - life) / NS_PER_S));
        left = life;
    }
    int64_t wait = MAX(rnd_jitter(loop_rnd(loop), left / 2, 0.1), NS_PER_S);
    if (id->wanted && id->issuer != id->wanted) /* another replica signs by the old CA still */
        wait = MIN(wait, MAX(id->within_s, 5) * NS_PER_S);
    loop_timer_in(loop, &id->timer, wait, ask_again);
}

void identity_wanted(struct identity *id, uint32_t issuer, uint32_t within_s)
{
    struct loop *loop = id->opts.control->loop;
    if (issuer == id->wanted)
        return;
    id->wanted = issuer;
    id->within_s = within_s;
    if (!issuer || !id->issuer || id->issuer == issuer || !id->opts.token_path)
        return;
    int64_t at = loop_now(loop) + (int64_t)(rnd_u32(loop_rnd(loop)) % (within_s * 1000 + 1)) *
                                      NS_PER_MS;
    if (loop_timer_is_set(&id->timer) && id->timer.deadline_ns <= at)
        return;
    LOG(INFO, "The mesh's CA changes: a certificate by the new one will be asked for", "within_s=%u",
        within_s);
    loop_timer_at(loop, &id->timer, at, ask_again);
}

uint32_t identity_issuer(const struct identity *id)
{
    return id->issuer;
}

static void granted(struct identity *id, struct slice msg)
{
    struct err err = {0};
    Istio__V1__Auth__IstioCertificateResponse *r =
        istio__v1__auth__istio_certificate_response__unpack(NULL, msg.len, (const uint8_t *)msg.p);
    if (!r || r->n_cert_chain < 1) {
        if (r)
            istio__v1__auth__istio_certificate_response__free_unpacked(r, NULL);
        ask_failed(id, "the CA's answer holds no certificate");
        return;
    }
    CLEANUP(buf_freep) struct buf chain;
    buf_init(&chain, FILE_MAX);
    /* The last one is the root: it is not sent to peers, who have it. */
    size_t n = r->n_cert_chain > 1 ? r->n_cert_chain - 1 : 1;
    for (size_t i = 0; i < n; i++)
        buf_add_str(&chain, r->cert_chain[i]);
    istio__v1__auth__istio_certificate_response__free_unpacked(r, NULL);
    char *pem = buf_take(&chain, NULL);
    if (!pem || install(id, id->next_key, pem, id->roots, &err) < 0) {
        mem_free(pem);
        ask_failed(id, err.msg[0] ? err.msg : "out of memory");
        return;
    }
    id->next_key = NULL;
    id->problem[0] = '\0';
    id->backoff_ns = RETRY_FIRST_NS;
    char until[32];
    clock_rfc3339(id->not_after_ns, 1, until);
    LOG(INFO, "Workload certificate in force", "id=%s until=%s", id->opts.spiffe_id, until);
    plan_renewal(id);
    id->opts.changed(id->opts.user);
}

static void on_message(struct grpc_stream *s, struct slice msg)
{
    struct identity *id = grpc_stream_user(s);
    if (id->answered)
        return;
    id->answered = true;
    granted(id, msg);
}

static void ca_hang_up(struct identity *id)
{
    struct grpc_conn *c = id->conn;
    id->conn = NULL;
    if (c)
        grpc_conn_close(c);
}

static void on_end(struct grpc_stream *s, enum grpc_status status, struct slice detail, bool final)
{
    struct identity *id = grpc_stream_user(s);
    char why[200];
    if (!final)
        return;
    if (!id->answered) {
        snprintf(why, sizeof why, "CA %s: %s %.*s", id->opts.ca_address, grpc_status_name(status),
                 (int)MIN(detail.len, (size_t)120), detail.p ? detail.p : "");
        id->answered = true;
        ask_failed(id, why);
    }
    ca_hang_up(id);
}

static const struct grpc_stream_ops call_ops = {.on_message = on_message, .on_end = on_end};

static void on_close(struct grpc_conn *c, const struct err *why)
{
    struct identity *id = grpc_conn_user(c);
    if (id->conn != c)
        return;
    id->conn = NULL;
    if (!id->answered) {
        id->answered = true;
        ask_failed(id, why && why->msg[0] ? why->msg : "connection closed");
    }
}

static const struct grpc_conn_ops conn_ops = {.on_close = on_close};

static int call_ca(struct identity *id, struct chan *chan, struct err *err)
{
    CLEANUP(mem_freep) char *token = NULL;
    CLEANUP(mem_freep) char *csr = NULL;
    char bearer[8192];
    struct grpc_stream *stream;
    id->answered = false;
    if (grpc_client(chan, id->opts.ca_name, NULL, &conn_ops, id, &id->conn, err) < 0)
        return -1;
    if (read_file(id->opts.token_path, &token, err) < 0 || x509_key_new(&id->next_key, err) < 0 ||
        x509_csr_new(id->next_key, id->opts.spiffe_id, &csr, err) < 0)
        return -1;
    int n = snprintf(bearer, sizeof bearer, "Bearer %.*s", SL_FMT(slice_trim(slice_str(token))));
    OPENSSL_cleanse(token, strlen(token));
    if ((size_t)n >= sizeof bearer)
        return err_set(err, ERR_LIMIT, "%s: the token is too long", id->opts.token_path);
    while (n > 0 && (bearer[n - 1] == '\n' || bearer[n - 1] == '\r'))
        bearer[--n] = '\0';
    const char *metadata[] = {"authorization", bearer, NULL};
    Istio__V1__Auth__IstioCertificateRequest req = ISTIO__V1__AUTH__ISTIO_CERTIFICATE_REQUEST__INIT;
    req.csr = csr;
    req.validity_duration = id->opts.life_s;
    size_t len = istio__v1__auth__istio_certificate_request__get_packed_size(&req);
    CLEANUP(mem_freep) uint8_t *packed = mem_alloc(len);
    if (!packed)
        return err_set(err, ERR_NOMEM, "signing request");
    istio__v1__auth__istio_certificate_request__pack(&req, packed);
    int rc = grpc_call(id->conn, CA_PATH, metadata, CALL_TIMEOUT_NS, &call_ops, id, &stream, err);
    OPENSSL_cleanse(bearer, sizeof bearer);
    if (rc < 0)
        return -1;
    if (grpc_send(stream, slice_of(packed, len)) != ERR_OK)
        return err_set(err, ERR_NOMEM, "signing request");
    grpc_end(stream);
    return 0;
}

static void ca_dialled(void *user, struct chan *chan, const struct err *why)
{
    struct identity *id = user;
    struct err err = {0};
    if (!chan) {
        ask_failed(id, why->msg);
        return;
    }
    if (call_ca(id, chan, &err) < 0) {
        id->answered = true;
        ca_hang_up(id);
        ask_failed(id, err.msg);
    }
}

static void ask(struct identity *id)
{
    struct err err = {0};
    char *roots;
    /* Kubelet refreshes the bundle: look again each time until the operator's settings bring one. */
    if (!id->opts.control->settings && read_file(id->opts.roots_path, &roots, &err) == 0) {
        if (id->roots && strcmp(roots, id->roots) == 0)
            mem_free(roots);
        else if (install(id, id->key, id->chain, roots, &err) < 0)
            mem_free(roots);
    }
    if (!id->control_plane) {
        ask_failed(id, err.msg[0] ? err.msg : "no trust anchors");
        return;
    }
    identity_dial(id, id->opts.ca_address, id->opts.ca_name, ca_dialled, id);
}

/* --- dialling the control plane ----------------------------------------------------------------------- */

struct dialling {
    struct identity *id;
    struct chan *chan;
    struct loop_timer timer;
    struct loop_task gone;
    char name[256];
    void (*done)(void *, struct chan *, const struct err *);
    void *user;
};

static void dialling_free(struct loop_task *t)
{
    mem_free(CONTAINER_OF(t, struct dialling, gone));
}

static void dialling_end(struct dialling *d, struct chan *chan, const struct err *err)
{
    struct loop *loop = d->id->opts.control->loop;
    loop_timer_clear(loop, &d->timer);
    if (!chan)
        chan_close(d->chan);
    d->chan = NULL;
    loop_task_add(loop, &d->gone, dialling_free);
    d->done(d->user, chan, err);
}

static void dialling_late(struct loop_timer *t)
{
    struct dialling *d = CONTAINER_OF(t, struct dialling, timer);
    struct err err = {0};
    err_set(&err, ERR_TIMEOUT, "%s: connection timed out", d->name);
    dialling_end(d, NULL, &err);
}

/* The control plane could not prove itself by the roots that it told us. It may have come back with
 * another CA meanwhile (its Secret was replaced while it was away): kubelet brings its bundle then, as
 * it did when the pod began, and for calls to the control plane it is believed as then. */
static void mounted_look(struct identity *id)
{
    CLEANUP(mem_freep) char *text = NULL;
    CLEANUP(buf_freep) struct buf both;
    struct tls_ctx *ctx = NULL;
    struct err err = {0};
    buf_init(&both, 2 * FILE_MAX + 2);
    if (!id->opts.roots_path || !id->roots || read_file(id->opts.roots_path, &text, &err) < 0 ||
        strcmp(text, id->roots) == 0 || (id->mounted && strcmp(text, id->mounted) == 0))
        return;
    buf_add_str(&both, id->roots);
    buf_add_char(&both, '\n');
    buf_add_str(&both, text);
    const char *roots = buf_cstr(&both);
    if (!roots || control_plane_make(id->key, id->chain, roots, &ctx, &err) < 0)
        return;
    tls_ctx_unref(id->control_plane);
    id->control_plane = ctx;
    mem_free(id->mounted);
    id->mounted = TAKE(text);
    LOG(WARN, "The mounted trust anchors are others: tried for the control plane, too", "file=%s",
        id->opts.roots_path);
}

static void dialling_event(void *user, unsigned events)
{
    struct dialling *d = user;
    struct err err = {0};
    if (events & CHAN_FAIL) {
        if (chan_is_tls(d->chan))
            mounted_look(d->id);
        err_set(&err, ERR_UNAVAILABLE, "%s: %s", d->name,
                chan_is_tls(d->chan) ? tls_chan_error(d->chan) : "connection refused");
        dialling_end(d, NULL, &err);
    } else if (events & CHAN_OPEN) {
        dialling_end(d, d->chan, &err);
    }
}

static void resolved(void *user, const struct sock_addr *addrs, int n, const struct err *why)
{
    struct dialling *d = user;
    struct identity *id = d->id;
    struct err err = {0};
    struct chan *tcp;
    struct tls_conn_opts opts = {.sni = d->name, .verify_host = d->name};
    if (n == 0) {
        dialling_end(d, NULL, why);
        return;
    }
    const struct sock_addr *to = &addrs[rnd_below(loop_rnd(id->opts.control->loop), (uint32_t)n)];
    int fd = sock_connect(to, NULL, &err);
    if (fd < 0 || chan_tcp(id->opts.control->loop, fd, false, &tcp, &err) < 0 ||
        tls_chan_client(id->control_plane, tcp, &opts, &d->chan, &err) < 0) {
        d->chan = NULL;
        dialling_end(d, NULL, &err);
        return;
    }
    chan_owner(d->chan, dialling_event, d);
    loop_timer_in(id->opts.control->loop, &d->timer, CALL_TIMEOUT_NS, dialling_late);
}

void identity_dial(struct identity *id, const char *address, const char *name,
                   void (*done)(void *user, struct chan *chan, const struct err *err), void *user)
{
    struct dialling *d = mem_zalloc(sizeof *d);
    struct err err = {0};
    if (!d) {
        err_set(&err, ERR_NOMEM, "dialling %s", address);
        done(user, NULL, &err);
        return;
    }
    d->id = id;
    d->done = done;
    d->user = user;
    slice_copy(slice_str(name), d->name, sizeof d->name);
    resolve_start(&id->opts.control->mailbox, address, resolved, d);
}

/* --- life ------------------------------------------------------------------------------------------------ */

int identity_new(const struct identity_opts *opts, struct identity **ret, struct err *err)
{
    struct identity *id = mem_zalloc(sizeof *id);
    if (!id)
        return err_set(err, ERR_NOMEM, "identity");
    id->opts = *opts;
    id->backoff_ns = RETRY_FIRST_NS;
    *ret = id;
    return 0;
}

void identity_free(struct identity *id)
{
    if (!id)
        return;
    loop_timer_clear(id->opts.control->loop, &id->timer);
    ca_hang_up(id);
    struct contexts c = {id->server, id->client, id->control_plane};
    contexts_drop(&c);
    tls_pem_free(id->key);
    tls_pem_free(id->next_key);
    mem_free(id->chain);
    mem_free(id->roots);
    mem_free(id->mounted);
    mem_free(id);
}

int identity_from_pem(struct identity *id, struct slice chain, struct slice key, struct slice roots,
                      struct err *err)
{
    char *k = mem_strndup(key.p, key.len), *c = mem_strndup(chain.p, chain.len),
         *r = mem_strndup(roots.p, roots.len);
    if (k && c && r && install(id, k, c, r, err) == 0) {
        id->opts.changed(id->opts.user);
        return 0;
    }
    if (!k || !c || !r)
        err_set(err, ERR_NOMEM, "identity");
    tls_pem_free(k);
    mem_free(c);
    mem_free(r);
    return -1;
}

/* Kept bytes: three PEM texts, each behind its length on a line of its own. */
static bool take_part(struct slice *rest, struct slice *ret)
{
    struct slice line;
    uint64_t n;
    if (!slice_next(rest, '\n', &line) || !slice_u64(line, FILE_MAX, &n) || rest->len < n)
        return false;
    *ret = slice_head(*rest, n);
    *rest = slice_skip(*rest, n);
    return true;
}

int identity_save(const struct identity *id, struct buf *ret, struct err *err)
{
    const char *parts[] = {id->chain, id->key, id->roots};
    for (size_t i = 0; i < N_OF(parts); i++) {
        size_t n = parts[i] ? strlen(parts[i]) : 0;
        buf_addf(ret, "%zu\n", n);
        buf_add(ret, parts[i] ? parts[i] : "", n);
    }
    return buf_err(ret) == ERR_OK ? 0 : err_set(err, buf_err(ret), "identity");
}

void identity_start(struct identity *id, struct slice kept)
{
    struct slice chain, key, roots;
    struct err err = {0};
    if (kept.len && take_part(&kept, &chain) && take_part(&kept, &key) &&
        take_part(&kept, &roots) && identity_from_pem(id, chain, key, roots, &err) == 0 &&
        id->not_after_ns > loop_wall(id->opts.control->loop)) {
        LOG(INFO, "Workload certificate taken over", "id=%s", id->opts.spiffe_id);
        plan_renewal(id);
        return;
    }
    ask(id);
}

void identity_roots(struct identity *id, struct slice roots_pem)
{
    struct err err = {0};
    if (roots_pem.len == 0 || (id->roots && slice_is(roots_pem, id->roots)))
        return;
    char *roots = mem_strndup(roots_pem.p, roots_pem.len);
    if (!roots || install(id, id->key, id->chain, roots, &err) < 0) {
        mem_free(roots);
        LOG(ERROR, "New trust anchors refused; the old ones stay", "reason=%s", err.msg);
        return;
    }
    LOG(INFO, "New trust anchors in force", "certificates=%d", x509_bundle_count(roots_pem));
    id->opts.changed(id->opts.user);
}

bool identity_ready(const struct identity *id)
{
    return id->server != NULL;
}

int64_t identity_not_after_ns(const struct identity *id)
{
    return id->not_after_ns;
}

const char *identity_problem(const struct identity *id)
{
    return id->problem;
}

struct tls_ctx *identity_client(const struct identity *id)
{
    return id->control_plane;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS channel. OpenSSL reads and writes through a BIO on the channel below. The BIO takes every
 * byte that OpenSSL writes: what the channel below refuses waits in `out`, and the owner's next
 * write is refused until it went. So a record is never half given, and a refused write may be
 * repeated with other bytes. */
#include <assert.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <openssl/x509v3.h>

#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/tls/chan_int.h"

enum {
    RECORD = SSL3_RT_MAX_PLAIN_LENGTH,
    BATCH_RECORDS = 4, /* of one call to write, sent in one system call */
    LINGER_S = 5,
};

/* --- memory that a thread uses for the length of one call
 * ----------------------------------------- */
struct scratch {
    char plain[RECORD];
    char batch[BATCH_RECORDS * (RECORD + 256)];
    size_t batch_len;
};
static _Thread_local struct scratch *scratch_mine;
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_init(void)
{
    pthread_key_create(&scratch_key, mem_free);
}

/* Allocated when a thread first needs it; untouched pages of it cost nothing. */
static struct scratch *scratch_get(void)
{
    if (!scratch_mine) {
        pthread_once(&scratch_once, scratch_init);
        scratch_mine = mem_alloc(sizeof *scratch_mine);
        if (scratch_mine) {
            scratch_mine->batch_len = 0;
            pthread_setspecific(scratch_key, scratch_mine);
        }
    }
    return scratch_mine;
}

/* --- failure
 * --------------------------------------------------------------------------------------- */
static struct tls *tls_of(struct chan *c)
{
    return CONTAINER_OF(c, struct tls, c);
}

/* The first reason stays. */
static enum err_code fail(struct tls *t, enum err_code code, const char *why)
{
    if (t->c.failure == ERR_OK) {
        t->c.failure = code;
        if (!t->error)
            t->error = mem_strdup(why);
    }
    return t->c.failure;
}

static enum err_code fail_below(struct tls *t, enum err_code code)
{
    t->c.os_errno = t->below->os_errno;
    return fail(t, code, chan_failure_text(t->below));
}

/* What SSL_get_error calls SSL_ERROR_SSL or SSL_ERROR_SYSCALL. */
static enum err_code fail_ssl(struct tls *t)
{
    char reason[160];
    unsigned long e = ERR_peek_error();

    if (t->c.failure) { /* the channel below failed within the BIO */
        ERR_clear_error();
        return t->c.failure;
    }
    if (t->error) {
        ERR_clear_error();
        return fail(t, ERR_DENIED, t->error);
    }
    if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE) {
        ERR_clear_error();
        return fail(t, ERR_NOMEM, "out of memory");
    }
    if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        ERR_clear_error();
        return fail(t, ERR_PROTO,
                    t->c.open ? "peer ended without close_notify"
                              : "peer ended in the middle of the handshake");
    }
    tls_reason(reason, sizeof reason);
    return fail(t, ERR_PROTO, reason[0] ? reason : "TLS failed");
}

/* --- output
 * ---------------------------------------------------------------------------------------- */
/* Give the channel below what it takes. False while something waits (or all is lost). */
static bool out_flush(struct tls *t)
{
    while (t->out_len > 0) {
        size_t n = 0;
        enum err_code rc = chan_write(t->below, t->out + t->out_off, t->out_len, &n);

        if (rc == ERR_AGAIN)
            return false;
        if (rc != ERR_OK) {
            fail_below(t, rc);
            t->out_len = 0;
            break;
        }
        t->out_off += (uint32_t)n;
        t->out_len -= (uint32_t)n;
    }
    mem_free(t->out);
    t->out = NULL;
    t->out_off = 0;
    if (t->shut && t->c.failure == ERR_OK)
        chan_shutdown(t->below); /* FIN behind the close_notify */
    return t->c.failure == ERR_OK;
}

/* Send, or keep what does not go now. */
static bool out_put(struct tls *t, const char *p, size_t len)
{
    char *out;

    while (len > 0 && t->out_len == 0) {
        size_t n = 0;
        enum err_code rc = chan_write(t->below, p, len, &n);

        if (rc == ERR_AGAIN)
            break;
        if (rc != ERR_OK && t->left)
            return true; /* an alert for a peer that left: its leaving is the reason, not this */
        if (rc != ERR_OK) {
            fail_below(t, rc);
            return false;
        }
        p += n;
        len -= n;
    }
    if (len == 0)
        return true;
    if (t->out_off > 0)
        memmove(t->out, t->out + t->out_off, t->out_len);
    t->out_off = 0;
    out = mem_realloc(t->out, t->out_len + len);
    if (!out) {
        fail(t, ERR_NOMEM, "out of memory");
        return false;
    }
    memcpy(out + t->out_len, p, len);
    t->out = out;
    t->out_len += (uint32_t)len;
    return true;
}

static int bio_write(BIO *bio, const char *p, int len)
{
    struct tls *t = BIO_get_data(bio);
    struct scratch *s = scratch_mine;

    if (t->c.failure)
        return -1;
    if (t->collecting && s->batch_len + (size_t)len <= sizeof s->batch) {
        memcpy(s->batch + s->batch_len, p, (size_t)len);
        s->batch_len += (size_t)len;
        return len;
    }
    return out_put(t, p, (size_t)len) ? len : -1;
}

static int bio_read(BIO *bio, char *p, int cap)
{
    struct tls *t = BIO_get_data(bio);
    size_t n = 0;
    enum err_code rc;

    BIO_clear_retry_flags(bio);
    if (t->early.p) {
        n = MIN(t->early.len - t->early_off, (size_t)cap);
        memcpy(p, t->early.p + t->early_off, n);
        t->early_off += n;
        if (t->early_off == t->early.len) {
            mem_free((void *)(uintptr_t)t->early.p);
            t->early = SLICE_NULL;
        }
        return (int)n;
    }
    rc = chan_read(t->below, p, (size_t)cap, &n);
    if (rc == ERR_OK)
        return (int)n;
    if (rc == ERR_AGAIN) {
        t->dry = true;
        BIO_set_retry_read(bio);
        return -1;
    }
    if (rc == ERR_EOF) {
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
        t->left = !t->c.open;
        return 0;
    }
    fail_below(t, rc);
    return -1;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num, (void)ptr;
    switch (cmd) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default:
        return 0;
    }
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void bio_init(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "chan");

    if (m && BIO_meth_set_write(m, bio_write) && BIO_meth_set_read(m, bio_read) &&
        BIO_meth_set_ctrl(m, bio_ctrl))
        bio_method = m;
    else
        BIO_meth_free(m);
}

/* --- handshake
 * -------------------------------------------------------------------------------------- */
static void tell(struct tls *t, unsigned events)
{
    if (t->c.cb && events && !t->closed)
        t->c.cb(t->c.user, events);
}

/* SSL_get_error takes what is left in the queue for the next call's. Emptying an empty one costs more than a look. */
static void errors_forget(void)
{
    if (ERR_peek_error())
        ERR_clear_error();
}

static unsigned handshake(struct tls *t)
{
    int rc;

    errors_forget();
    rc = SSL_do_handshake(t->ssl);
    if (rc == 1) {
        t->c.open = true;
        t->dry = false; /* the first read lets go of the handshake's buffer */
        t->resumed = SSL_session_reused(t->ssl);
        mem_free(t->error);
        t->error = NULL;
        if (t->ctx->own_tickets && !t->resumed && !tls_ticket_send(t->ssl, &t->peer)) {
            fail_ssl(t);
            return CHAN_FAIL;
        }
        tls_slim(t->ssl);
        return CHAN_OPEN | CHAN_READ | CHAN_WRITE;
    }
    if (SSL_get_error(t->ssl, rc) == SSL_ERROR_WANT_READ && t->c.failure == ERR_OK)
        return 0;
    fail_ssl(t);
    /* A server that refuses our session should not be asked to resume it again. */
    if (t->session_key)
        tls_sessions_drop(t->ctx, slice_of(t->session_key, t->session_key_len));
    return CHAN_FAIL;
}

static void finish(struct tls *t);

static void lingered(struct loop_timer *timer)
{
    finish(CONTAINER_OF(timer, struct tls, linger));
}

static void below_event(void *user, unsigned events)
{
    struct tls *t = user;
    unsigned out = 0;

    if (events & CHAN_FAIL)
        fail_below(t, t->below->failure);
    if (t->closed) {
        if (events & CHAN_FAIL || out_flush(t) || t->out_len == 0)
            finish(t);
        return;
    }
    if (t->c.failure) {
        tell(t, CHAN_FAIL);
        return;
    }
    if (events & (CHAN_READ | CHAN_OPEN))
        t->dry = false;
    if (events & CHAN_WRITE && t->out_len > 0)
        out_flush(t);
    if (!t->c.open && t->below->open) {
        out = t->c.failure ? CHAN_FAIL : handshake(t);
    } else if (t->c.open) {
        if (events & CHAN_READ)
            out |= CHAN_READ;
        if (t->write_refused && t->out_len == 0) {
            t->write_refused = false;
            out |= CHAN_WRITE;
        }
        if (t->c.failure)
            out |= CHAN_FAIL;
    }
    tell(t, out);
}

/* --- operations
 * ------------------------------------------------------------------------------------- */
static enum err_code tls_read(struct chan *c, void *p, size_t cap, size_t *ret_n)
{
    struct tls *t = tls_of(c);
    int rc;

    assert(cap > 0);
    if (c->failure)
        return c->failure;
    if (t->eof)
        return ERR_EOF;
    if (!c->open || (t->dry && !SSL_has_pending(t->ssl)))
        return ERR_AGAIN;
    errors_forget();
    rc = SSL_read_ex(t->ssl, p, cap, ret_n);
    if (t->ticket) {
        t->ticket = false;
        tls_slim(t->ssl);
    }
    if (rc == 1) {
        c->bytes_in += *ret_n;
        return ERR_OK;
    }
    switch (SSL_get_error(t->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return c->failure ? c->failure : ERR_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        t->eof = true;
        return ERR_EOF;
    default:
        return fail_ssl(t);
    }
}

/* The next piece of at most a record, from one buffer where it lies in one. */
static struct slice gather(const struct iovec **iov, int *n, size_t *off, struct scratch *s)
{
    size_t len = 0;

    while (*n > 0 && (*iov)->iov_len == *off)
        ++*iov, --*n, *off = 0;
    if (*n > 0 && (*n == 1 || (*iov)->iov_len - *off >= RECORD)) {
        size_t part = MIN((*iov)->iov_len - *off, (size_t)RECORD);

        *off += part;
        return slice_of((const char *)(*iov)->iov_base + *off - part, part);
    }
    while (*n > 0 && len < RECORD) {
        size_t part = MIN((*iov)->iov_len - *off, RECORD - len);

        memcpy(s->plain + len, (const char *)(*iov)->iov_base + *off, part);
        len += part;
        *off += part;
        if (*off == (*iov)->iov_len)
            ++*iov, --*n, *off = 0;
    }
    return slice_of(s->plain, len);
}

static enum err_code tls_writev(struct chan *c, const struct iovec *iov, int n, size_t *ret_n)
{
    struct tls *t = tls_of(c);
    struct scratch *s = scratch_get();
    size_t total = 0, done = 0, off = 0, w = 0;
    bool ok = true;

    if (c->failure)
        return c->failure;
    if (t->shut)
        return ERR_CLOSED;
    if (!s)
        return fail(t, ERR_NOMEM, "out of memory");
    if (!c->open || (t->out_len > 0 && !out_flush(t))) {
        t->write_refused = true;
        return c->failure ? c->failure : ERR_AGAIN;
    }
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    if (total == 0) {
        *ret_n = 0;
        return ERR_OK;
    }
    errors_forget();
    t->collecting = total > RECORD;
    for (int i = 0; ok && done < total && i < BATCH_RECORDS; i++) {
        struct slice piece = gather(&iov, &n, &off, s);

        ok = SSL_write_ex(t->ssl, piece.p, piece.len, &w) == 1 && w == piece.len;
        done += ok ? piece.len : 0;
    }
    if (t->collecting) {
        t->collecting = false;
        if (s->batch_len > 0 && !c->failure)
            out_put(t, s->batch, s->batch_len);
        s->batch_len = 0;
    }
    if (!ok || c->failure)
        return fail_ssl(t);
    if (done < total)
        t->write_refused = t->out_len > 0;
    c->bytes_out += done;
    *ret_n = done;
    return ERR_OK;
}

static void tls_shutdown(struct chan *c)
{
    struct tls *t = tls_of(c);

    if (t->shut || c->failure || !c->open)
        return;
    t->shut = true;
    ERR_clear_error();
    SSL_shutdown(t->ssl); /* close_notify, RFC 8446 6.1; reading goes on */
    ERR_clear_error();
    out_flush(t);
}

static void tls_free(struct loop_task *task)
{
    mem_free(CONTAINER_OF(task, struct tls, task));
}

/* Everything but the struct itself, which a caller up the stack may still hold. */
static void finish(struct tls *t)
{
    struct chan *below = TAKE(t->below);

    if (!below)
        return;
    loop_timer_clear(t->c.loop, &t->linger);
    if (t->reset)
        chan_tcp_reset(below);
    chan_close(below);
    SSL_free(t->ssl);
    t->ssl = NULL;
    tls_ctx_unref(t->ctx);
    tls_peer_fini(&t->peer);
    mem_free(t->out);
    t->out = NULL;
    mem_free(t->session_key);
    mem_free(t->sans);
    mem_free(t->error);
    t->error = NULL;
    mem_free((void *)(uintptr_t)t->early.p);
    loop_task_add(t->c.loop, &t->task, tls_free);
}

static void tls_close(struct chan *c)
{
    struct tls *t = tls_of(c);

    if (t->closed)
        return;
    loop_task_clear(c->loop, &t->task);
    if (!t->reset)
        tls_shutdown(c);
    t->closed = true;
    c->cb = NULL;
    if (c->failure == ERR_OK && t->out_len > 0 && !t->reset) {
        c->failure = ERR_CLOSED;
        if (loop_timer_in(c->loop, &t->linger, LINGER_S * NS_PER_S, lingered) == 0)
            return;
    }
    c->failure = ERR_CLOSED;
    finish(t);
}

static int tls_fd(const struct chan *c)
{
    const struct tls *t = CONTAINER_OF(c, const struct tls, c);

    return t->below ? chan_fd(t->below) : -1;
}

static void task_run(struct loop_task *task)
{
    struct tls *t = CONTAINER_OF(task, struct tls, task);
    bool due = t->resume_due;

    t->resume_due = t->resume_asked;
    t->resume_asked = false;
    if (t->resume_due)
        loop_task_add(t->c.loop, task, task_run);
    if (!t->c.open && !t->c.failure)
        below_event(t, CHAN_READ);
    if (due)
        tell(t, CHAN_READ | CHAN_WRITE);
}

static void tls_resume(struct chan *c)
{
    struct tls *t = tls_of(c);

    if (t->closed || t->resume_asked)
        return;
    t->resume_asked = true;
    loop_task_add(c->loop, &t->task, task_run);
}

static void tls_reset(struct chan *c)
{
    tls_of(c)->reset = true;
}

static const struct chan_ops tls_ops = {
    .name = "tls",
    .read = tls_read,
    .writev = tls_writev,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .fd = tls_fd,
    .resume = tls_resume,
    .reset = tls_reset,
};

/* --- making
 * ----------------------------------------------------------------------------------------- */
static int ssl_setup(struct tls *t, const struct tls_conn_opts *o, struct err *err)
{
    BIO *bio;

    pthread_once(&bio_once, bio_init);
    t->ssl = SSL_new(t->ctx->ssl);
    bio = t->ssl && bio_method ? BIO_new(bio_method) : NULL;
    if (!bio)
        return tls_err(err, ERR_NOMEM, "TLS connection");
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    if (SSL_set_app_data(t->ssl, t) != 1)
        return tls_err(err, ERR_NOMEM, "TLS connection");
    if (t->ctx->server) {
        SSL_set_accept_state(t->ssl);
        return 0;
    }
    SSL_set_connect_state(t->ssl);
    if (o->sni && SSL_set_tlsext_host_name(t->ssl, o->sni) != 1)
        return tls_err(err, ERR_INVALID, "server name");
    if (o->alpn.len && SSL_set_alpn_protos(t->ssl, (const unsigned char *)o->alpn.p,
                                           (unsigned)o->alpn.len) != 0)
        return tls_err(err, ERR_INVALID, "alpn");
    if (o->verify_host && !t->ctx->spiffe) {
        X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);

        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (X509_VERIFY_PARAM_set1_ip_asc(param, o->verify_host) != 1 &&
            X509_VERIFY_PARAM_set1_host(param, o->verify_host, 0) != 1)
            return tls_err(err, ERR_INVALID, "name to verify");
        ERR_clear_error();
    }
    return 0;
}

/* What a session was verified for is part of its key, so that a resumption cannot widen it. */
static int session_key_set(struct tls *t, const struct tls_conn_opts *o)
{
    const char *sni = o->sni ? o->sni : "", *host = o->verify_host ? o->verify_host : "";
    size_t a = strlen(sni) + 1, b = strlen(host) + 1;

    if (!o->session_key.p || !t->ctx->resume || t->ctx->server)
        return 0;
    t->session_key = mem_alloc(a + b + o->session_key.len);
    if (!t->session_key)
        return -1;
    memcpy(t->session_key, sni, a);
    memcpy(t->session_key + a, host, b);
    memcpy(t->session_key + a + b, o->session_key.p, o->session_key.len);
    t->session_key_len = (uint32_t)(a + b + o->session_key.len);
    return 0;
}

static int sans_set(struct tls *t, const struct tls_conn_opts *o)
{
    size_t n = 0;

    for (size_t i = 0; i < o->n_sans; i++)
        n += o->sans[i].len + 1;
    if (n == 0 || t->ctx->server || t->ctx->spiffe)
        return 0;
    t->sans = mem_zalloc(n);
    if (!t->sans)
        return -1;
    for (size_t i = 0; i < o->n_sans; i++) {
        memcpy(t->sans + t->sans_len, o->sans[i].p, o->sans[i].len);
        t->sans_len += (uint32_t)o->sans[i].len + 1;
    }
    return 0;
}

static int tls_new(struct tls_ctx *ctx, struct chan *below, const struct tls_conn_opts *o,
                   struct slice early, struct chan **ret, struct err *err)
{
    static const struct tls_conn_opts none;
    struct tls *t = mem_zalloc(sizeof *t);
    char *copy = NULL;

    o = o ? o : &none;
    if (!t) {
        chan_close(below);
        return err_set(err, ERR_NOMEM, "TLS connection");
    }
    t->c.ops = &tls_ops;
    t->c.loop = below->loop;
    t->below = below;
    t->ctx = tls_ctx_ref(ctx);
    t->judge = o->judge;
    t->judge_user = o->judge_user;
    if (o->judge && !ctx->verify_peer) {
        err_set(err, ERR_INVALID, "TLS connection: a judge needs a context that verifies the peer");
        goto fail;
    }
    if (session_key_set(t, o) < 0 || sans_set(t, o) < 0 || (early.len && !(copy = mem_strndup(early.p, early.len)))) {
        err_set(err, ERR_NOMEM, "TLS connection");
        goto fail;
    }
    if (copy)
        t->early = slice_of(copy, early.len);
    if (ssl_setup(t, o, err) < 0)
        goto fail;
    tls_session_offer(t);
    chan_owner(below, below_event, t);
    loop_task_add(t->c.loop, &t->task, task_run);
    *ret = &t->c;
    return 0;
fail:
    t->closed = true;
    t->c.failure = ERR_CLOSED;
    finish(t);
    return -1;
}

int tls_chan_client(struct tls_ctx *ctx, struct chan *below, const struct tls_conn_opts *opts,
                    struct chan **ret, struct err *err)
{
    assert(!ctx->server);
    return tls_new(ctx, below, opts, SLICE_NULL, ret, err);
}

int tls_chan_server(struct tls_ctx *ctx, struct chan *below, const struct tls_conn_opts *opts,
                    struct slice early, struct chan **ret, struct err *err)
{
    assert(ctx->server);
    return tls_new(ctx, below, opts, early, ret, err);
}

bool chan_is_tls(const struct chan *c)
{
    return c->ops == &tls_ops;
}

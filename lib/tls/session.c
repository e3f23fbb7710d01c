/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions that a client context remembers: the newest per key, the least recently made is
 * forgotten first. */
#include "lib/base/mem.h"
#include "lib/tls/tls_int.h"

static void unlink_session(struct tls_ctx *ctx, struct tls_session *s)
{
    *(s->newer ? &s->newer->older : &ctx->newest) = s->older;
    *(s->older ? &s->older->newer : &ctx->oldest) = s->newer;
    ctx->n_sessions--;
}

static void session_free(struct tls_session *s)
{
    SSL_SESSION_free(s->ssl);
    tls_peer_fini(&s->peer);
    mem_free(s);
}

static void forget(struct tls_ctx *ctx, struct tls_session *s)
{
    map_remove(&ctx->sessions, slice_of(s->key, s->key_len));
    unlink_session(ctx, s);
    session_free(s);
}

bool tls_sessions_find(struct tls_ctx *ctx, struct slice key, int64_t wall_s, SSL_SESSION **ret,
                       struct tls_peer *ret_peer)
{
    struct tls_session *s;
    bool found = false;

    pthread_mutex_lock(&ctx->lock);
    s = map_get(&ctx->sessions, key);
    if (s && ((s->peer.known && s->peer.end_s <= wall_s) || !SSL_SESSION_is_resumable(s->ssl))) {
        forget(ctx, s);
        s = NULL;
    }
    if (s && tls_peer_copy(&s->peer, ret_peer) == 0) {
        SSL_SESSION_up_ref(s->ssl);
        *ret = s->ssl;
        found = true;
    }
    pthread_mutex_unlock(&ctx->lock);
    return found;
}

void tls_sessions_put(struct tls_ctx *ctx, struct slice key, SSL_SESSION *ssl,
                      const struct tls_peer *peer)
{
    struct tls_session *s = mem_zalloc(sizeof *s + key.len);
    void *old = NULL;

    if (!s)
        return;
    if (tls_peer_copy(peer, &s->peer) < 0) {
        mem_free(s);
        return;
    }
    memcpy(s->key, key.p, key.len);
    s->key_len = key.len;
    SSL_SESSION_up_ref(ssl);
    s->ssl = ssl;
    pthread_mutex_lock(&ctx->lock);
    if (map_put(&ctx->sessions, key, s, &old) < 0) {
        pthread_mutex_unlock(&ctx->lock);
        session_free(s);
        return;
    }
    if (old) {
        unlink_session(ctx, old);
        session_free(old);
    }
    s->older = ctx->newest;
    *(s->older ? &s->older->newer : &ctx->oldest) = s;
    ctx->newest = s;
    if (++ctx->n_sessions > TLS_SESSIONS_MAX)
        forget(ctx, ctx->oldest);
    pthread_mutex_unlock(&ctx->lock);
}

void tls_sessions_drop(struct tls_ctx *ctx, struct slice key)
{
    struct tls_session *s;

    pthread_mutex_lock(&ctx->lock);
    s = map_get(&ctx->sessions, key);
    if (s)
        forget(ctx, s);
    pthread_mutex_unlock(&ctx->lock);
}

void tls_sessions_fini(struct tls_ctx *ctx)
{
    while (ctx->newest)
        forget(ctx, ctx->newest);
    map_fini(&ctx->sessions);
}

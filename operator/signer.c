/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/signer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/tls/x509.h"
#include "operator/signer_int.h"

struct open_ask {
    uint64_t id; /* 0: free */
    signer_done_fn *done;
    void *user;
};
struct signer {
    struct loop *loop;
    struct signer_pipe pipe;
    struct signer_hooks hooks;
    struct loop_io io;
    struct open_ask open[SIGNER_OPEN_MAX];
    uint64_t last_id;
    bool ready, dead;
    char *roots, fingerprint[65];
    struct signer_news news;
    struct signer_told told;
    char alarm[300];
    int64_t not_after_ns;
    char *in; /* SIGNER_MSG_MAX */
};

int signer_fork(const struct signer_opts *opts, struct signer_pipe *ret, struct err *err)
{
    int fds[2];
    pid_t parent = getpid();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
        return err_errno(err, errno, "socketpair");
    for (int i = 0; i < 2; i++)
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int));
    pid_t pid = fork();
    if (pid < 0) {
        int e = errno;
        close(fds[0]);
        close(fds[1]);
        return err_errno(err, e, "fork");
    }
    if (pid == 0) {
        close(fds[0]);
        signer_child(fds[1], parent, opts);
    }
    close(fds[1]);
    *ret = (struct signer_pipe){fds[0], pid};
    return 0;
}

static void died(struct signer *s)
{
    struct err err = {0};
    if (s->dead)
        return;
    s->dead = true;
    s->ready = false;
    loop_io_del(s->loop, &s->io);
    err_set(&err, ERR_UNAVAILABLE, "the signer ended");
    for (size_t i = 0; i < N_OF(s->open); i++)
        if (s->open[i].id) {
            struct open_ask a = s->open[i];
            s->open[i].id = 0;
            a.done(a.user, NULL, 0, &err);
        }
    if (s->hooks.died)
        s->hooks.died(s->hooks.user);
}

/* News of the CA itself. */
static void take_news(struct signer *s, const struct signer_answer *a, struct slice text)
{
    if (a->code != ERR_OK) {
        slice_copy(slice_head(text, sizeof s->alarm - 1), s->alarm, sizeof s->alarm);
    } else {
        static const char hex[] = "0123456789abcdef";
        unsigned char sum[32];
        if (text.len < sizeof s->news)
            return;
        memcpy(&s->news, text.p, sizeof s->news);
        text = slice_skip(text, sizeof s->news);
        char *roots = mem_strndup(text.p, text.len);
        if (!roots)
            return;
        mem_free(s->roots);
        s->roots = roots;
        s->alarm[0] = '\0';
        s->not_after_ns = a->not_after_ns;
        s->ready = true;
        tls_sha256(text, sum);
        for (int i = 0; i < 32; i++) {
            s->fingerprint[2 * i] = hex[sum[i] >> 4];
            s->fingerprint[2 * i + 1] = hex[sum[i] & 15];
        }
        s->fingerprint[64] = '\0';
    }
    if (s->hooks.changed)
        s->hooks.changed(s->hooks.user);
}

static void take_answer(struct signer *s, const struct signer_answer *a, struct slice text)
{
    struct slice chain[10];
    struct err err = {0};
    for (size_t i = 0; i < N_OF(s->open); i++) {
        struct open_ask *o = &s->open[i];
        if (o->id != a->id)
            continue;
        signer_done_fn *done = o->done;
        void *user = o->user;
        o->id = 0;
        if (a->code != ERR_OK) {
            err_set(&err, (enum err_code)a->code, "%.*s", SL_FMT(text));
            done(user, NULL, 0, &err);
        } else {
            done(user, chain, pem_split(text, chain, N_OF(chain)), NULL);
        }
        return;
    }
}

static void readable(struct loop_io *io, unsigned events)
{
    struct signer *s = CONTAINER_OF(io, struct signer, io);
    struct signer_answer a;
    (void)events;
    for (;;) {
        ssize_t n = recv(io->fd, s->in, SIGNER_MSG_MAX, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            died(s);
            return;
        }
        if ((size_t)n < sizeof a)
            continue;
        memcpy(&a, s->in, sizeof a);
        struct slice text = slice_of(s->in + sizeof a, (size_t)n - sizeof a);
        if (a.id == 0)
            take_news(s, &a, text);
        else
            take_answer(s, &a, text);
    }
}

int signer_new(struct loop *loop, const struct signer_pipe *pipe, const struct signer_hooks *hooks,
               struct signer **ret, struct err *err)
{
    struct signer *s = mem_zalloc(sizeof *s);
    if (!s || !(s->in = mem_alloc(SIGNER_MSG_MAX)) || !(s->roots = mem_strdup(""))) {
        if (s)
            mem_free(s->in);
        mem_free(s);
        return err_set(err, ERR_NOMEM, "signer");
    }
    s->loop = loop;
    s->pipe = *pipe;
    s->hooks = *hooks;
    s->io.fd = -1;
    if (loop_io_add(loop, &s->io, pipe->fd, LOOP_READ, readable, err) < 0) {
        mem_free(s->roots);
        mem_free(s->in);
        mem_free(s);
        return -1;
    }
    *ret = s;
    return 0;
}

void signer_free(struct signer *s)
{
    if (!s)
        return;
    loop_io_del(s->loop, &s->io);
    close(s->pipe.fd); /* the child ends by this */
    waitpid(s->pipe.pid, NULL, 0);
    mem_free(s->roots);
    mem_free(s->in);
    mem_free(s);
}

struct signer_state signer_state(const struct signer *s)
{
    struct signer_state st = {
        .ready = s->ready,
        .roots_pem = s->roots,
        .not_after_ns = s->not_after_ns,
        .chain_end_ns = s->news.chain_end_ns,
        .root_end_ns = s->news.root_end_ns,
        .since_s = s->news.since_s,
        .due_s = s->news.due_s,
        .issuer = s->news.issuer,
        .step = s->news.step,
        .next = s->news.next,
        .retiring = s->news.retiring,
        .alarm = s->alarm,
    };
    memcpy(st.fingerprint, s->fingerprint, sizeof st.fingerprint);
    memcpy(st.issuer_print, s->news.issuer_print, sizeof st.issuer_print);
    return st;
}

void signer_tell(struct signer *s, const struct signer_told *told)
{
    if (s->dead || memcmp(told, &s->told, sizeof s->told) == 0)
        return;
    if (send(s->pipe.fd, told, sizeof *told, MSG_NOSIGNAL) == sizeof *told)
        s->told = *told; /* a full pipe: it is told again */
}

int signer_issue(struct signer *s, const struct signer_ask *ask, signer_done_fn *done, void *user,
                 struct err *err)
{
    struct open_ask *slot = NULL;
    for (size_t i = 0; i < N_OF(s->open) && !slot; i++)
        if (!s->open[i].id)
            slot = &s->open[i];
    if (s->dead)
        return err_set(err, ERR_UNAVAILABLE, "the signer ended");
    if (!slot)
        return err_set(err, ERR_LIMIT, "%d questions to the signer are open", SIGNER_OPEN_MAX);
    CLEANUP(buf_freep) struct buf names, msg;
    buf_init(&names, 8192);
    buf_init(&msg, SIGNER_MSG_MAX);
    if (ask->spiffe_id)
        buf_add(&names, ask->spiffe_id, strlen(ask->spiffe_id) + 1);
    for (size_t i = 0; !ask->spiffe_id && ask->dns[i]; i++)
        buf_add(&names, ask->dns[i], strlen(ask->dns[i]) + 1);
    struct signer_question q = {
        .id = ++s->last_id,
        .life_s = ask->life_s,
        .spki_len = (uint32_t)ask->spki.len,
        .names_len = (uint32_t)buf_len(&names),
        .kind = ask->spiffe_id ? SIGNER_SPIFFE : SIGNER_DNS,
    };
    buf_add(&msg, &q, sizeof q);
    buf_add_slice(&msg, ask->spki);
    buf_add_slice(&msg, buf_slice(&names));
    if (buf_err(&names) != ERR_OK || buf_err(&msg) != ERR_OK)
        return err_set(err, ERR_LIMIT, "question to the signer");
    if (send(s->pipe.fd, buf_slice(&msg).p, buf_len(&msg), MSG_NOSIGNAL) < 0)
        return err_errno(err, errno, "signer");
    *slot = (struct open_ask){q.id, done, user};
    return 0;
}

void signer_forget(struct signer *s, void *user)
{
    for (size_t i = 0; i < N_OF(s->open); i++)
        if (s->open[i].user == user)
            s->open[i].id = 0;
}

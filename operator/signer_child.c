/* SPDX-License-Identifier: Apache-2.0 */
/* The signer's own process: reads or makes the CA, answers questions, ends with its parent. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/tls/x509.h"
#include "operator/signer_store.h"

#define CHECK_OK_NS (15 * NS_PER_S)    /* how often what is stored is compared with what is held */
#define CHECK_BUSY_NS (1 * NS_PER_S) /* while the CA changes */
#define CHECK_BAD_NS (2 * NS_PER_S)

struct child {
    const struct signer_opts *opts;
    struct clock clock;
    struct loop *loop;
    struct loop_io io;
    struct signer_store store;
    struct signer_ca ca;      /* that signs */
    struct signer_ca desired; /* that is stored */
    struct rotation record;
    bool has_record;
    bool made;    /* by this process */
    char *bundle; /* as told */
    struct signer_news news;
    int64_t not_after_ns; /* of the certificate that signs */
    struct signer_told told;
    int64_t next_ns;
    char alarm[300]; /* last one, so that it is told once */
    char *in;
};

static void tell(struct child *c, uint64_t id, enum err_code code, struct slice text,
                 int64_t not_after_ns)
{
    CLEANUP(buf_freep) struct buf b;
    struct signer_answer a = {id, not_after_ns, (uint32_t)code, (uint32_t)text.len};
    buf_init(&b, SIGNER_MSG_MAX);
    buf_add(&b, &a, sizeof a);
    buf_add_slice(&b, text);
    for (int tries = 0; tries < 50; tries++) { /* a full pipe: the parent is slow, not gone */
        if (send(c->io.fd, buf_slice(&b).p, buf_len(&b), MSG_NOSIGNAL) >= 0 ||
            (errno != EAGAIN && errno != ENOBUFS))
            return;
        usleep(20000);
    }
}

static void alarm_tell(struct child *c, const struct err *err)
{
    if (strcmp(c->alarm, err->msg) == 0)
        return;
    slice_copy(slice_str(err->msg), c->alarm, sizeof c->alarm);
    LOG(ERROR, "The CA is in trouble", "reason=%s", err->msg);
    tell(c, 0, err->code, slice_str(err->msg), 0);
}

/* --- questions --------------------------------------------------------------------------------------- */

static void readable(struct loop_io *io, unsigned events)
{
    struct child *c = CONTAINER_OF(io, struct child, io);
    (void)events;
    for (;;) {
        ssize_t n = recv(io->fd, c->in, SIGNER_MSG_MAX, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            signer_ca_fini(&c->ca);
            signer_ca_fini(&c->desired);
            rotation_fini(&c->record);
            _exit(0); /* the parent is gone */
        }
        if (n == sizeof c->told && ((const struct signer_told *)(const void *)c->in)->zero == 0) {
            memcpy(&c->told, c->in, sizeof c->told);
            c->next_ns = 0;
            continue;
        }
        uint64_t id;
        char *text;
        int64_t not_after;
        enum err_code code = signer_answer_of(&c->ca, slice_of(c->in, (size_t)n),
                                              loop_wall(c->loop), &id, &text, &not_after);
        tell(c, id ? id : UINT64_MAX, code, slice_str(text ? text : err_code_name(code)),
             not_after);
        mem_free(text);
    }
}

/* --- the CA in force --------------------------------------------------------------------------- */

static uint32_t bits(struct slice bundle, struct slice of, bool inside)
{
    struct slice part[BUNDLE_MAX];
    size_t n = pem_split(bundle, part, N_OF(part));
    uint32_t mask = 0;
    for (size_t i = 0; i < n; i++)
        mask |= (uint32_t)(bundle_covers(of, part[i]) == inside) << i;
    return mask;
}

/* Earliest end of the certificates of a PEM text. */
static int64_t first_end(struct slice pem)
{
    struct slice part[BUNDLE_MAX];
    size_t n = pem_split(pem, part, N_OF(part));
    int64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        struct x509_cert_info info;
        struct err err = {0};
        if (x509_cert_info(part[i], &info, &err) == 0 && (!end || info.not_after_ns < end))
            end = info.not_after_ns;
    }
    return end;
}

/* All is well, and this is the CA. */
static void news_tell(struct child *c)
{
    CLEANUP(buf_freep) struct buf text;
    buf_init(&text, SIGNER_MSG_MAX);
    buf_add(&text, &c->news, sizeof c->news);
    buf_add_str(&text, c->bundle);
    c->alarm[0] = '\0';
    tell(c, 0, ERR_OK, buf_slice(&text), c->not_after_ns);
}

/* Put in force what record and stored CA say, and tell the parent when it is news. */
static int adopt(struct child *c, struct err *err)
{
    const struct rotation *r = c->has_record ? &c->record : NULL;
    CLEANUP(mem_freep) char *bundle = rotation_bundle(r, &c->desired);
    struct signer_ca ca;
    struct x509_cert_info info = {0};
    if (!bundle || rotation_signer(r, &c->desired, &ca, err) < 0)
        return err_set(err, ERR_NOMEM, "CA");
    if (x509_cert_info(slice_str(ca.cert), &info, err) < 0) {
        signer_ca_fini(&ca);
        return -1;
    }
    struct slice all = slice_str(bundle), want = slice_str(c->desired.roots);
    struct signer_news news;
    memset(&news, 0, sizeof news); /* compared as bytes */
    news.chain_end_ns = first_end(slice_str(ca.chain));
    news.root_end_ns = first_end(slice_str(ca.roots));
    news.since_s = r ? r->since_s : 0;
    news.step = r ? r->step : ROTATION_NONE;
    news.issuer = info.key_id;
    if (r && r->made && r->step == ROTATION_NONE)
        news.due_s = rotation_due_s(&c->desired, c->told.percent);
    if (news.step == ROTATION_SPREAD)
        news.next = bits(all, slice_str(r->trusted), false);
    else if (news.step == ROTATION_RENEW)
        news.retiring = bits(all, want, false);
    cert_fingerprint(slice_str(ca.cert), news.issuer_print);
    bool same = c->ca.key && strcmp(c->ca.key, ca.key) == 0 &&
                strcmp(c->ca.chain, ca.chain) == 0 && c->ca.paused == ca.paused && c->bundle &&
                strcmp(c->bundle, bundle) == 0 && memcmp(&c->news, &news, sizeof news) == 0;
    if (same) {
        signer_ca_fini(&ca);
        return 0;
    }
    signer_ca_fini(&c->ca);
    c->ca = ca;
    mem_free(c->bundle);
    c->bundle = TAKE(bundle);
    c->news = news;
    c->not_after_ns = info.not_after_ns;
    LOG(INFO, "CA in force", "from=%s subject=%s step=%s", c->store.from, info.subject,
        rotation_step_name(news.step));
    news_tell(c);
    return 0;
}

/* --- changing it ------------------------------------------------------------------------------- */

/* The parent's word counts for the step, the CA and the bundle that it was said of. */
static bool followed(const struct child *c)
{
    unsigned char sum[32];
    char print[FINGERPRINT];
    if (!c->told.followed || !c->bundle || c->told.step != c->record.step ||
        c->told.step != c->news.step || c->told.issuer != c->news.issuer)
        return false;
    tls_sha256(slice_str(c->bundle), sum);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(print + 2 * i, 3, "%02x", sum[i]);
    return strcmp(print, c->told.bundle) == 0;
}

static int record_write(struct child *c, struct rotation *next, struct err *err)
{
    char *text = rotation_text(next);
    int rc = text ? store_record_save(&c->store, text, err) : err_set(err, ERR_NOMEM, "record");
    tls_pem_free(text);
    if (rc < 0) {
        rotation_fini(next);
        return err_wrap(err, "the rotation of the CA could not be recorded");
    }
    LOG(INFO, "Rotation of the CA", "step=%s issuer=%.16s", rotation_step_name(next->step),
        next->issuer);
    rotation_fini(&c->record);
    c->record = *next;
    c->has_record = true;
    return 0;
}

/* A new root of our own: first the record, which keeps the key that signs meanwhile. When what
 * follows fails, the stored CA is the old one, and the rotation is taken back as if a user had. */
static int make_root(struct child *c, const struct rotation_seen *seen, struct err *err)
{
    struct x509_cert_info info;
    struct signer_ca ca;
    struct rotation next;
    char td[sizeof info.subject];
    if (x509_cert_info(slice_str(c->desired.cert), &info, err) < 0)
        return -1;
    slice_copy(slice_str(strncmp(info.subject, "O=", 2) == 0 ? info.subject + 2 : info.subject),
               td, sizeof td);
    if (signer_ca_new(td, loop_wall(c->loop), &ca, err) < 0)
        return -1;
    int rc = rotation_begin(seen, &ca, true, &next, err);
    if (rc == 0) {
        slice_copy(slice_str(seen->request), next.request, sizeof next.request);
        rc = record_write(c, &next, err);
    }
    if (rc == 0)
        rc = store_ca_replace(&c->store, &ca, err);
    if (rc == 0) {
        signer_ca_fini(&c->desired);
        c->desired = ca;
        return 0;
    }
    signer_ca_fini(&ca);
    return -1;
}

static int rotate(struct child *c, bool own, struct err *err)
{
    for (int steps = 0; steps < 3; steps++) { /* one look seldom takes more than one */
        struct rotation_seen seen = {
            .record = c->has_record ? &c->record : NULL,
            .desired = &c->desired,
            .signing = &c->ca,
            .own = own || c->made,
            .now_s = loop_wall(c->loop) / NS_PER_S,
            .followed = c->has_record && followed(c),
            .step_s = c->told.step_s,
            .life_s = c->told.life_s,
            .request = c->told.request,
            .percent = c->told.percent,
        };
        enum rotation_act act;
        struct rotation next;
        if (rotation_plan(&seen, &act, &next, err) < 0)
            return -1;
        if (act == ROTATION_KEEP)
            return adopt(c, err);
        if (!c->told.lead) {
            if (act == ROTATION_WRITE)
                rotation_fini(&next);
            char print[FINGERPRINT];
            cert_fingerprint(slice_str(c->desired.cert), print);
            if (!c->has_record || strcmp(print, c->record.issuer) == 0)
                return adopt(c, err); /* the holder of the Lease does it */
            return c->ca.key ? 0
                             : err_set(err, ERR_UNAVAILABLE, "the CA in %s is another one: waiting "
                                       "for the Lease's holder to begin the change",
                                       c->store.from);
        }
        if ((act == ROTATION_WRITE ? record_write(c, &next, err) : make_root(c, &seen, err)) < 0 ||
            adopt(c, err) < 0)
            return -1;
    }
    return 0;
}

static int record_read(struct child *c, struct err *err)
{
    char *text = NULL;
    struct rotation r;
    if (store_record_load(&c->store, &text, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        rotation_fini(&c->record);
        c->has_record = false;
        *err = (struct err){0};
        return 0;
    }
    int rc = rotation_parse(slice_str(text), &r, err);
    tls_pem_free(text);
    if (rc < 0)
        return -1;
    rotation_fini(&c->record);
    c->record = r;
    c->has_record = true;
    return 0;
}

/* No CA is stored: a new root, but only where no root was ever known. */
static int absent(struct child *c, struct err *err)
{
    char td[256];
    struct signer_ca ca = {0};
    if (c->ca.key)
        return err_set(err, ERR_CONFLICT, "%s is gone while its root is in use: restore it; "
                       "signing goes on until this process ends", c->store.from);
    if (store_may_create(&c->store, td, err) < 0 ||
        signer_ca_new(td, loop_wall(c->loop), &ca, err) < 0)
        return -1;
    int rc = store_ca_create(&c->store, &ca, err);
    if (rc == 0)
        c->made = true;
    signer_ca_fini(&ca);
    return rc == 0 || err->code == ERR_EXISTS ? 0 : -1;
}

static int check(struct child *c, struct err *err)
{
    bool own = false;
    struct signer_ca ca;
    if (record_read(c, err) < 0)
        return -1;
    int rc = store_ca_load(&c->store, &ca, &own, err);
    if (rc < 0 && err->code == ERR_NOT_FOUND) {
        *err = (struct err){0};
        if (absent(c, err) < 0)
            return -1;
        *err = (struct err){0};
        rc = store_ca_load(&c->store, &ca, &own, err);
    }
    if (rc < 0)
        return -1;
    signer_ca_fini(&c->desired);
    c->desired = ca;
    if (rotate(c, own, err) < 0)
        return -1;
    if (c->told.request[0] && c->has_record && c->record.step == ROTATION_NONE &&
        !c->record.made && c->told.lead)
        return err_set(err, ERR_UNSUPPORTED, "another root is asked for (%.60s), but this CA is "
                       "yours (%s): write the new one there", c->told.request, c->store.from);
    return 0;
}

_Noreturn void signer_child(int fd, pid_t parent, const struct signer_opts *opts)
{
    struct child c = {.opts = opts, .io = {.fd = -1}, .store = {.opts = opts}};
    struct err err = {0};

    prctl(PR_SET_NAME, "tulle-signer");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0); /* no core, no ptrace by a sibling of the same user */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    if (getppid() != parent)
        _exit(1);
    signal(SIGINT, SIG_IGN); /* the parent ends us by closing the socket */
    signal(SIGTERM, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    clock_init_real(&c.clock);
    c.in = mem_alloc(SIGNER_MSG_MAX);
    if (!c.in || loop_new(&c.clock, &c.loop, &err) < 0 || !(c.store.loop = c.loop) ||
        loop_io_add(c.loop, &c.io, fd, LOOP_READ, readable, &err) < 0) {
        LOG(ERROR, "Signer could not start", "reason=%s", err.msg);
        _exit(1);
    }
    for (;;) {
        int64_t now = clock_now(&c.clock);
        if (now >= c.next_ns) {
            err = (struct err){0};
            c.next_ns = now + CHECK_OK_NS; /* the parent's word meanwhile makes it 0 */
            int rc = check(&c, &err);
            if (rc < 0)
                alarm_tell(&c, &err);
            else if (c.alarm[0])
                news_tell(&c);
            int64_t wait = rc < 0                              ? CHECK_BAD_NS
                           : c.news.step != ROTATION_NONE ? CHECK_BUSY_NS
                                                          : CHECK_OK_NS;
            if (c.next_ns)
                c.next_ns = clock_now(&c.clock) + wait;
            continue;
        }
        if (loop_turn(c.loop, (int)((c.next_ns - now) / NS_PER_MS) + 1, &err) < 0)
            _exit(1);
    }
}

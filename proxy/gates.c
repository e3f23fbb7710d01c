/* SPDX-License-Identifier: Apache-2.0 */
/* A gateway on the control thread: sockets and TLS contexts. */
#include "proxy/gates.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "proxy/gates_int.h"
#include "proxy/handover.h"
#include "proxy/options.h"
#include "proxy/served.h"

enum { PORTS_MAX = 64 };

struct door { /* one place to listen, opened for every worker */
    uint16_t port;
    char bind[128]; /* address, or a unix socket */
    char problem[160]; /* "": open */
    bool wanted;
};
struct gateway {
    struct gateway_opts opts;
    struct gates *gates; /* the newest; NULL until listeners are known */
    struct door doors[PORTS_MAX];
    unsigned n_doors;
    struct handover_fd kept[PORTS_MAX];
    int n_kept;
    /* What the newest picture was made of. */
    const struct prog *of_listeners;
    uint64_t of_changes;
    char **marks; /* by gate as gates->tls: what its context was made of; NULL: none */
};

/* --- the picture
 * ---------------------------------------------------------------------------------- */

struct gates *gates_ref(struct gates *g)
{
    atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

void gates_unref(struct gates *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < g->n_tls; i++)
        tls_ctx_unref(g->tls[i]);
    prog_unref(g->listeners);
    mem_free(g->tls);
    mem_free(g->first);
    mem_free(g);
}

static struct gates *gates_new(struct prog_listeners *l)
{
    struct gates *g = mem_zalloc(sizeof *g);
    if (!g)
        return NULL;
    atomic_init(&g->refs, 1);
    g->first = mem_array(l->n_ports + 1, sizeof *g->first);
    for (uint32_t i = 0; g->first && i < l->n_ports; i++) {
        g->first[i] = g->n_tls;
        g->n_tls += l->ports[i].n_gates;
    }
    g->tls = mem_array(g->n_tls + 1, sizeof(struct tls_ctx *));
    if (!g->first || !g->tls) {
        g->n_tls = 0;
        gates_unref(g);
        return NULL;
    }
    g->listeners = prog_ref(l);
    return g;
}

/* --- TLS contexts
 * ----------------------------------------------------------------------------------- */

static const struct prog_credential *credential(const struct gateway *g, struct slice key)
{
    const struct known *k = key.len ? control_find(g->opts.control, PROG_CREDENTIAL, key) : NULL;
    return k ? (const struct prog_credential *)k->prog : NULL;
}

static int context(const struct gateway *g, const struct prog_gate *gate, struct tls_ctx **ret,
                   struct err *err)
{
    struct served_texts t = {0};
    const struct prog_credential *roots = NULL;
    for (uint32_t i = 0; i < gate->credentials.n && i < SERVED_CERTS; i++) {
        const struct prog_credential *c = credential(g, gate->credentials.p[i]);
        if (!c || !c->chain_pem.len)
            return err_set(err, ERR_NOT_FOUND, "%s", ""); /* its status says what is missing */
        t.certs[t.n_certs++] = (struct tls_identity){c->chain_pem, c->key_pem};
        roots = roots ? roots : c;
    }
    if (gate->ca_credential.len)
        roots = credential(g, gate->ca_credential);
    if (!roots)
        return err_set(err, ERR_NOT_FOUND, "%s", "");
    t.roots = roots->roots_pem;
    t.crl = roots->crl_pem;
    return served_build(gate, &t, ret, err);
}

static void mark_strings(struct buf *b, const struct prog_strings *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        buf_addf(b, "%.*s,", SL_FMT(l->p[i]));
    buf_add_char(b, ';');
}

static void mark_version(struct buf *b, const struct gateway *g, struct slice key)
{
    const struct prog_credential *c = credential(g, key);
    for (size_t k = 0; c && k < c->prog.version.len; k++)
        buf_addf(b, "%02x", (unsigned char)c->prog.version.p[k]);
    buf_add_char(b, ';');
}

static void mark_pins(struct buf *b, const struct prog_strings *l)
{
    for (uint32_t i = 0; i < l->n; i++)
        for (size_t k = 0; k < l->p[i].len; k++)
            buf_addf(b, "%02x", (unsigned char)l->p[i].p[k]);
    buf_add_char(b, ';');
}

/* All that a context is made of, but for the content of the certificates, which versions stand for.
 * Heap; NULL without memory. */
static char *mark_of(const struct gateway *g, const struct prog_gate *gate)
{
    struct buf b;
    size_t len;
    buf_init(&b, 1 << 16);
    buf_addf(&b, "%.*s;%d;%d;%u;%u;%.*s;", SL_FMT(gate->name), (int)gate->tls, gate->http,
             gate->min_version, gate->max_version, SL_FMT(gate->ca_credential));
    mark_strings(&b, &gate->credentials);
    mark_strings(&b, &gate->ciphers);
    mark_strings(&b, &gate->subject_alt_names);
    mark_pins(&b, &gate->hashes);
    mark_pins(&b, &gate->keys);
    buf_add_char(&b, '|');
    for (uint32_t i = 0; i < gate->credentials.n; i++)
        mark_version(&b, g, gate->credentials.p[i]);
    mark_version(&b, g, gate->ca_credential);
    buf_add_char(&b, '\0');
    if (buf_err(&b) == ERR_OK)
        return buf_take(&b, &len);
    buf_fini(&b);
    return NULL;
}

/* The context of the same gate as it was before; `whole`: made of the same certificates, too. */
static struct tls_ctx *held(const struct gateway *g, const char *mark, bool whole)
{
    size_t n = whole ? strlen(mark) + 1 : (size_t)(strrchr(mark, '|') - mark);
    for (uint32_t i = 0; g->gates && i < g->gates->n_tls; i++)
        if (g->marks[i] && strncmp(g->marks[i], mark, n) == 0 && g->gates->tls[i])
            return tls_ctx_ref(g->gates->tls[i]);
    return NULL;
}

/* A certificate that is gone or broken leaves the one in use in force: its status says so. */
static struct tls_ctx *make(struct gateway *g, const struct prog_gate *gate, const char *mark)
{
    struct tls_ctx *ctx = held(g, mark, true);
    struct err err = {0};
    struct slice first = gate->credentials.n ? gate->credentials.p[0] : SLICE_NULL;
    if (ctx)
        return ctx;
    if (context(g, gate, &ctx, &err) == 0) {
        LOG(INFO, "Certificate in use", "gate=%.*s credential=%.*s", SL_FMT(gate->name),
            SL_FMT(first));
        return ctx;
    }
    ctx = held(g, mark, false);
    if (err.msg[0])
        LOG(ERROR, "Certificate cannot be used",
            "gate=%.*s credential=%.*s old_one_stays=%d reason=%s", SL_FMT(gate->name),
            SL_FMT(first), ctx != NULL, err.msg);
    return ctx;
}

/* --- certificates that are needed
 * ------------------------------------------------------------------- */

static void need_credentials(struct gateway *g, const struct prog_listeners *l)
{
    for (uint32_t i = 0; i < l->n_ports; i++)
        for (uint32_t k = 0; k < l->ports[i].n_gates; k++) {
            const struct prog_gate *gate = &l->ports[i].gates[k];
            for (uint32_t n = 0; n < gate->credentials.n; n++)
                control_need(g->opts.control, PROG_CREDENTIAL, gate->credentials.p[n]);
            if (gate->ca_credential.len)
                control_need(g->opts.control, PROG_CREDENTIAL, gate->ca_credential);
        }
}

static bool names(const struct prog_gate *gate, struct slice key)
{
    for (uint32_t i = 0; i < gate->credentials.n; i++)
        if (slice_eq(gate->credentials.p[i], key))
            return true;
    return slice_eq(gate->ca_credential, key);
}

static bool needs(const struct prog_listeners *l, struct slice key)
{
    for (uint32_t i = 0; i < l->n_ports; i++)
        for (uint32_t k = 0; k < l->ports[i].n_gates; k++)
            if (names(&l->ports[i].gates[k], key))
                return true;
    return false;
}

static bool not_needed(void *user, struct slice key)
{
    return !needs(user, key);
}

/* --- sockets
 * ------------------------------------------------------------------------------------------ */

static const char *door_at(const struct gateway *g, const char *bind)
{
    const char *at = bind[0] ? bind : g->opts.at;
    return at[0] == '*' ? "::" : at;
}

/* Short enough for a name of the supervisor's. */
static void socket_name(const struct door *d, unsigned worker, char ret[HANDOVER_NAME_MAX])
{
    uint32_t h = 2166136261u; /* FNV-1a: tells a few addresses apart */
    for (const char *p = d->bind; *p; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    snprintf(ret, HANDOVER_NAME_MAX, "gate.%u.%u.%08x", worker, d->port, h);
}

static int kept_socket(struct gateway *g, const char *name)
{
    for (int i = 0; i < g->n_kept; i++)
        if (strcmp(g->kept[i].name, name) == 0 && g->kept[i].fd >= 0) {
            int fd = g->kept[i].fd;
            g->kept[i].fd = -1;
            return fd;
        }
    return -1;
}

/* Sockets for all workers or for none. */
static int door_open(struct gateway *g, struct door *d, int fds[CONCURRENCY_MAX])
{
    unsigned n = g->opts.control->n_workers, i;
    struct sock_addr a;
    struct err err = {0};
    bool local = strncmp(d->bind, "unix://", 7) == 0;
    if (!local && sock_addr_parse(slice_str(door_at(g, d->bind)), d->port, &a) < 0) {
        snprintf(d->problem, sizeof d->problem, "%s is no address", door_at(g, d->bind));
        return -1;
    }
    for (i = 0; i < n; i++) {
        char name[HANDOVER_NAME_MAX];
        socket_name(d, i, name);
        fds[i] = kept_socket(g, name);
        if (fds[i] < 0 && local && i)
            fds[i] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
        else if (fds[i] < 0)
            fds[i] = local ? sock_listen_unix(d->bind + 7, 1024, &err)
                           : sock_listen(&a, true, 1024, &err);
        if (fds[i] < 0)
            break;
        if (g->opts.supervisor >= 0 && handover_keep_fd(g->opts.supervisor, name, fds[i], &err) < 0)
            LOG(WARN, "A restart will close a port for a moment", "port=%u reason=%s", d->port,
                err.msg);
    }
    if (i == n) {
        d->problem[0] = '\0';
        LOG(INFO, "Port opened", "port=%u address=%s", d->port, door_at(g, d->bind));
        return 0;
    }
    char why[sizeof d->problem];
    snprintf(why, sizeof why, "port %u at %.60s cannot be opened: %.70s", d->port,
             door_at(g, d->bind), err.msg);
    if (strcmp(why, d->problem) != 0) /* it is tried again whenever something is learned */
        LOG(ERROR, "Port cannot be opened", "port=%u address=%s reason=%s", d->port,
            door_at(g, d->bind), err.msg);
    memcpy(d->problem, why, sizeof why);
    while (i-- > 0)
        close(fds[i]);
    return -1;
}

static void door_forget(struct gateway *g, struct door *d)
{
    struct err err = {0};
    for (unsigned i = 0; i < g->opts.control->n_workers && g->opts.supervisor >= 0; i++) {
        char name[HANDOVER_NAME_MAX];
        socket_name(d, i, name);
        handover_drop(g->opts.supervisor, name, &err);
    }
    LOG(INFO, "Port closed", "port=%u address=%s", d->port, d->bind[0] ? d->bind : g->opts.at);
    if (strncmp(d->bind, "unix:///", 8) == 0)
        unlink(d->bind + 7);
    *d = g->doors[--g->n_doors];
}

static struct door *door_of(struct gateway *g, const struct prog_gate_port *p)
{
    for (unsigned i = 0; i < g->n_doors; i++)
        if (g->doors[i].port == p->port && slice_is(p->bind, g->doors[i].bind))
            return &g->doors[i];
    return NULL;
}

/* --- telling the workers
 * ---------------------------------------------------------------------------- */

static struct gates_mail *mail_new(struct gates *now)
{
    struct gates_mail *m = mem_zalloc(sizeof *m);
    if (!m)
        return NULL;
    m->gates = gates_ref(now);
    m->fds = mem_array(now->listeners->n_ports + 1, sizeof *m->fds);
    for (uint32_t i = 0; m->fds && i < now->listeners->n_ports; i++)
        m->fds[i] = -1;
    if (m->fds)
        return m;
    gates_unref(m->gates);
    mem_free(m);
    return NULL;
}

/* Sockets that are new go with the picture; what is open stays with its worker. */
static void tell(struct gateway *g, struct gates *now)
{
    const struct prog_listeners *l = now->listeners;
    struct control *c = g->opts.control;
    struct gates_mail *mail[CONCURRENCY_MAX] = {0};
    for (unsigned w = 0; w < c->n_workers; w++)
        if (!(mail[w] = mail_new(now)))
            LOG(ERROR, "Out of memory: a worker keeps its old listeners", "worker=%u", w);
    for (unsigned i = 0; i < g->n_doors; i++)
        g->doors[i].wanted = false;
    for (uint32_t i = 0; i < l->n_ports; i++) {
        struct door *d = door_of(g, &l->ports[i]);
        int fds[CONCURRENCY_MAX];
        if (!d && g->n_doors < PORTS_MAX) {
            d = &g->doors[g->n_doors];
            *d = (struct door){.port = l->ports[i].port, .problem = "not open yet"};
            if (!slice_copy(l->ports[i].bind, d->bind, sizeof d->bind))
                continue;
            g->n_doors++;
        }
        if (!d)
            continue;
        d->wanted = true;
        if (!d->problem[0] || door_open(g, d, fds) < 0)
            continue;
        for (unsigned w = 0; w < c->n_workers; w++) {
            if (mail[w])
                mail[w]->fds[i] = fds[w];
            else
                close(fds[w]);
        }
    }
    for (unsigned i = g->n_doors; i-- > 0;)
        if (!g->doors[i].wanted)
            door_forget(g, &g->doors[i]);
    for (unsigned w = 0; w < c->n_workers; w++)
        if (mail[w])
            gates_send(c->workers[w], mail[w]);
}

/* --- learning
 * ------------------------------------------------------------------------------------------- */

static void marks_free(struct gateway *g)
{
    for (uint32_t i = 0; g->gates && g->marks && i < g->gates->n_tls; i++)
        mem_free(g->marks[i]);
    mem_free(g->marks);
    g->marks = NULL;
}

/* The picture as it is now; *ret_changed when a context is another than before. */
static struct gates *picture(struct gateway *g, struct prog_listeners *l, char ***ret_marks,
                             bool *ret_changed)
{
    struct gates *now = gates_new(l);
    char **marks = now ? mem_array(now->n_tls + 1, sizeof *marks) : NULL;
    if (!marks) {
        gates_unref(now);
        return NULL;
    }
    for (uint32_t i = 0; i < l->n_ports; i++)
        for (uint32_t k = 0; k < l->ports[i].n_gates; k++) {
            const struct prog_gate *gate = &l->ports[i].gates[k];
            uint32_t at = now->first[i] + k;
            if (prog_gate_ends_tls(gate->tls) && gate->tls != PROG_GATE_MESH &&
                !served_by_files(gate) && (marks[at] = mark_of(g, gate)))
                now->tls[at] = make(g, gate, marks[at]);
            *ret_changed |= !g->gates || at >= g->gates->n_tls || g->gates->tls[at] != now->tls[at];
        }
    *ret_marks = marks;
    return now;
}

/* Is some port not open? Then another try is due. */
static bool is_shut(const struct gateway *g)
{
    for (unsigned i = 0; i < g->n_doors; i++)
        if (g->doors[i].problem[0])
            return true;
    return false;
}

void gateway_learned(struct gateway *g)
{
    const struct known *k = control_find(g->opts.control, PROG_LISTENERS, slice_str(g->opts.key));
    struct prog_listeners *l = k ? (struct prog_listeners *)k->prog : NULL;
    if (!l)
        return; /* absent or not known yet: what is open stays */
    if (g->gates && g->of_changes == g->opts.control->gateway_changes && !is_shut(g))
        return;
    g->of_changes = g->opts.control->gateway_changes;
    bool changed = g->of_listeners != &l->prog || is_shut(g);
    if (changed) {
        need_credentials(g, l);
        if (!g->opts.key[0]) /* a sidecar's are others' matter */
            control_need_no_more(g->opts.control, PROG_CREDENTIAL, not_needed, l);
    }
    char **marks;
    struct gates *now = picture(g, l, &marks, &changed);
    if (!now) {
        LOG(ERROR, "Out of memory: listeners stay as they are", "");
        return;
    }
    if (changed)
        tell(g, now);
    marks_free(g);
    gates_unref(g->gates);
    g->gates = now; /* holds `l`, so that its address means it */
    g->marks = marks;
    g->of_listeners = &l->prog;
}

bool gateway_open(const struct gateway *g)
{
    return g->gates != NULL;
}

/* Certificates in files are made when somebody connects; whether they are good is told at once. */
static int judge_files(const struct gateway *g, struct err *err)
{
    const struct prog_listeners *l = g->gates ? g->gates->listeners : NULL;
    for (uint32_t i = 0; l && i < l->n_ports; i++)
        for (uint32_t k = 0; k < l->ports[i].n_gates; k++)
            if (served_judge_gate(g->opts.control, &l->ports[i].gates[k], err) < 0)
                return -1;
    return 0;
}

int gateway_judge(const struct gateway *g, enum prog_kind kind, struct slice key, struct err *err)
{
    if (kind == PROG_LISTENERS)
        for (unsigned i = 0; i < g->n_doors; i++)
            if (g->doors[i].problem[0])
                return err_set(err, ERR_IO, "%s", g->doors[i].problem);
    return kind == PROG_LISTENERS ? judge_files(g, err)
                                  : served_judge(g->opts.control, kind, key, err);
}

/* --- life
 * -------------------------------------------------------------------------------------------------
 */

int gateway_new(const struct gateway_opts *opts, struct gateway **ret, struct err *err)
{
    struct gateway *g = mem_zalloc(sizeof *g);
    if (!g)
        return err_set(err, ERR_NOMEM, "gateway");
    g->opts = *opts;
    for (int i = 0; i < opts->n_kept && g->n_kept < PORTS_MAX; i++)
        if (strncmp(opts->kept[i].name, "keep.gate.", 10) == 0) {
            snprintf(g->kept[g->n_kept].name, HANDOVER_NAME_MAX, "%s", opts->kept[i].name + 5);
            g->kept[g->n_kept++].fd = opts->kept[i].fd;
        }
    *ret = g;
    return 0;
}

void gateway_free(struct gateway *g)
{
    if (!g)
        return;
    marks_free(g);
    gates_unref(g->gates);
    for (int i = 0; i < g->n_kept; i++)
        if (g->kept[i].fd >= 0)
            close(g->kept[i].fd);
    mem_free(g);
}

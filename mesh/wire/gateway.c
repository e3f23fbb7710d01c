/* SPDX-License-Identifier: Apache-2.0 */
/* LISTENERS and CREDENTIAL: both ways, and as text. A key is never text. */
#include "lib/data/ipaddr.h"
#include "mesh/wire/decode_int.h"

/* --- to messages ------------------------------------------------------------------------------ */
#define HAVE(assign)                                                                               \
    do {                                                                                           \
        if (!(assign))                                                                             \
            return NULL;                                                                           \
    } while (0)

static const int gate_tls[] = {
    [PROG_GATE_CLOSED] = PB_ENUM(GATE_TLS__GATE_CLOSED),
    [PROG_GATE_PLAIN] = PB_ENUM(GATE_TLS__GATE_PLAIN),
    [PROG_GATE_SIMPLE] = PB_ENUM(GATE_TLS__GATE_SIMPLE),
    [PROG_GATE_MUTUAL] = PB_ENUM(GATE_TLS__GATE_MUTUAL),
    [PROG_GATE_OPTIONAL_MUTUAL] = PB_ENUM(GATE_TLS__GATE_OPTIONAL_MUTUAL),
    [PROG_GATE_MESH] = PB_ENUM(GATE_TLS__GATE_MESH),
    [PROG_GATE_PASSTHROUGH] = PB_ENUM(GATE_TLS__GATE_PASSTHROUGH),
    [PROG_GATE_AUTO] = PB_ENUM(GATE_TLS__GATE_AUTO),
};

static char *text(struct arena *a, struct slice s)
{
    return s.len ? arena_strndup(a, s.p, s.len) : (char *)(uintptr_t)protobuf_c_empty_string;
}

static char **texts(struct arena *a, const struct prog_strings *l)
{
    char **v = ARENA_ARRAY(a, char *, l->n);

    for (uint32_t i = 0; v && i < l->n; i++)
        HAVE(v[i] = text(a, l->p[i]));
    return v;
}

static ProtobufCBinaryData *blobs(struct arena *a, const struct prog_strings *l)
{
    ProtobufCBinaryData *v = ARENA_ARRAY(a, ProtobufCBinaryData, l->n);

    for (uint32_t i = 0; v && i < l->n; i++)
        v[i] = pb_bytes(l->p[i]);
    return v;
}

static PB(Listeners__Files) * files(struct arena *a, const struct prog_gate_files *f)
{
    PB(Listeners__Files) *m = pb_new(a, PB_DESC(listeners__files));

    HAVE(m && (m->certificate = text(a, f->certificate)) && (m->key = text(a, f->key)));
    return m;
}

PB(Listeners__Gate) * enc_gate(struct arena *a, const struct prog_gate *g)
{
    PB(Listeners__Gate) *m = pb_new(a, PB_DESC(listeners__gate));

    HAVE(m && (m->name = text(a, g->name)) && (m->sni = texts(a, &g->sni)) &&
         (m->subject_alt_name = texts(a, &g->subject_alt_names)) &&
         (m->cipher = texts(a, &g->ciphers)) && (m->credential = texts(a, &g->credentials)) &&
         (m->ca_credential = text(a, g->ca_credential)) &&
         (m->roots_file = text(a, g->roots_file)) && (m->crl_file = text(a, g->crl_file)) &&
         (m->client_hash = blobs(a, &g->hashes)) && (m->client_key = blobs(a, &g->keys)) &&
         (m->file = ARENA_ARRAY(a, PB(Listeners__Files) *, g->n_files)) &&
         (m->host = ARENA_ARRAY(a, PB(Listeners__Host) *, g->n_hosts)));
    m->tls = (PB(GateTls))gate_tls[g->tls];
    m->http = g->http;
    m->n_sni = g->sni.n;
    m->n_subject_alt_name = g->subject_alt_names.n;
    m->n_cipher = g->ciphers.n;
    m->n_credential = g->credentials.n;
    m->n_client_hash = g->hashes.n;
    m->n_client_key = g->keys.n;
    for (uint32_t i = 0; i < g->n_files; i++)
        HAVE(m->file[m->n_file++] = files(a, &g->files[i]));
    m->min_version = g->min_version;
    m->max_version = g->max_version;
    for (uint32_t i = 0; i < g->n_hosts; i++) {
        PB(Listeners__Host) *h = pb_new(a, PB_DESC(listeners__host));

        HAVE(h && (h->host = text(a, g->hosts[i].host)));
        h->routed = g->hosts[i].routed;
        h->redirect = g->hosts[i].redirect;
        m->host[m->n_host++] = h;
    }
    return m;
}

void *enc_listeners(struct arena *a, const struct prog_listeners *l)
{
    PB(Listeners) *m = pb_new(a, PB_DESC(listeners));

    HAVE(m && (m->port = ARENA_ARRAY(a, PB(Listeners__Port) *, l->n_ports)));
    for (uint32_t i = 0; i < l->n_ports; i++) {
        const struct prog_gate_port *from = &l->ports[i];
        PB(Listeners__Port) *p = pb_new(a, PB_DESC(listeners__port));

        HAVE(p && (p->bind = text(a, from->bind)) &&
             (p->gate = ARENA_ARRAY(a, PB(Listeners__Gate) *, from->n_gates)));
        p->port = from->port;
        p->number = from->number;
        for (uint32_t k = 0; k < from->n_gates; k++)
            HAVE(p->gate[p->n_gate++] = enc_gate(a, &from->gates[k]));
        m->port[m->n_port++] = p;
    }
    return m;
}

void *enc_credential(struct arena *a, const struct prog_credential *c)
{
    PB(Credential) *m = pb_new(a, PB_DESC(credential));

    HAVE(m && (m->revision = text(a, c->revision)));
    m->chain_pem = pb_bytes(c->chain_pem);
    m->key_pem = pb_bytes(c->key_pem);
    m->roots_pem = pb_bytes(c->roots_pem);
    m->crl_pem = pb_bytes(c->crl_pem);
    return m;
}

/* --- from messages ---------------------------------------------------------------------------- */
static enum prog_gate_tls tls_of(int v)
{
    for (size_t i = 0; i < N_OF(gate_tls); i++)
        if (gate_tls[i] == v)
            return (enum prog_gate_tls)i;
    return PROG_GATE_CLOSED;
}

static int version_of(struct rd *r, const struct fpath *at, uint32_t v, uint8_t unset, uint8_t *ret)
{
    if (v != 0 && v != 12 && v != 13)
        return dec_bad(r, at, "no TLS version %u", v);
    *ret = v ? (uint8_t)v : unset;
    return 0;
}

static int hashes(struct rd *r, const struct fpath *at, const ProtobufCBinaryData *v, size_t n,
                  struct prog_strings *ret)
{
    ARRAY(r, ret->p, ret->n, n);
    for (uint32_t i = 0; i < ret->n; i++) {
        if (v[i].len != 32)
            return dec_bad(r, at, "of %zu bytes", v[i].len);
        TRY(dec_bytes(r, v[i], &ret->p[i]));
    }
    return 0;
}

int dec_gate(struct rd *r, const struct fpath *at, const PB(Listeners__Gate) * m,
             struct prog_gate *ret)
{
    TRY(dec_text(r, m->name, &ret->name));
    if (!ret->name.len)
        return dec_bad(r, AT(at, "name"), "is required");
    ret->tls = tls_of((int)m->tls);
    ret->http = m->http;
    TRY(dec_texts(r, m->sni, m->n_sni, &ret->sni));
    TRY(dec_texts(r, m->credential, m->n_credential, &ret->credentials));
    ARRAY(r, ret->files, ret->n_files, m->n_file);
    for (uint32_t i = 0; i < ret->n_files; i++) {
        TRY(dec_text(r, m->file[i]->certificate, &ret->files[i].certificate));
        TRY(dec_text(r, m->file[i]->key, &ret->files[i].key));
    }
    TRY(dec_text(r, m->roots_file, &ret->roots_file));
    TRY(dec_text(r, m->crl_file, &ret->crl_file));
    TRY(hashes(r, AT(at, "client_hash"), m->client_hash, m->n_client_hash, &ret->hashes));
    TRY(hashes(r, AT(at, "client_key"), m->client_key, m->n_client_key, &ret->keys));
    TRY(dec_text(r, m->ca_credential, &ret->ca_credential));
    TRY(dec_texts(r, m->subject_alt_name, m->n_subject_alt_name, &ret->subject_alt_names));
    TRY(dec_texts(r, m->cipher, m->n_cipher, &ret->ciphers));
    TRY(version_of(r, AT(at, "min_version"), m->min_version, 12, &ret->min_version));
    TRY(version_of(r, AT(at, "max_version"), m->max_version, 13, &ret->max_version));
    ARRAY(r, ret->hosts, ret->n_hosts, m->n_host);
    for (uint32_t i = 0; i < ret->n_hosts; i++) {
        TRY(dec_text(r, m->host[i]->host, &ret->hosts[i].host));
        if (!ret->hosts[i].host.len ||
            (i && slice_cmp(ret->hosts[i - 1].host, ret->hosts[i].host) >= 0))
            return dec_bad(r, NTH(at, "host", i), "empty or out of order");
        ret->hosts[i].routed = m->host[i]->routed;
        ret->hosts[i].redirect = m->host[i]->redirect;
    }
    return 0;
}

int dec_listeners(struct rd *r, const void *from, void *to)
{
    const PB(Listeners) *m = from;
    struct prog_listeners *ret = to;

    ARRAY(r, ret->ports, ret->n_ports, m->n_port);
    for (uint32_t i = 0; i < ret->n_ports; i++) {
        const struct fpath *at = NTH(&FPATH_ROOT, "port", i);
        const PB(Listeners__Port) *p = m->port[i];
        struct prog_gate_port *one = &ret->ports[i];
        struct ipaddr ip;

        TRY(dec_text(r, p->bind, &one->bind));
        if (!slice_starts(one->bind, SL("unix://"))) {
            TRY(dec_port(r, AT(at, "port"), p->port, &one->port));
            TRY(dec_port(r, AT(at, "number"), p->number, &one->number));
            if (one->bind.len && !ip_parse(one->bind, &ip))
                return dec_bad(r, AT(at, "bind"), "no address");
        }
        for (uint32_t k = 0; k < i; k++)
            if (ret->ports[k].port == one->port && slice_eq(ret->ports[k].bind, one->bind))
                return dec_bad(r, AT(at, "port"), "%u is there already", one->port);
        ARRAY(r, one->gates, one->n_gates, p->n_gate);
        for (uint32_t k = 0; k < one->n_gates; k++)
            TRY(dec_gate(r, NTH(at, "gate", k), p->gate[k], &one->gates[k]));
    }
    return 0;
}

int dec_credential(struct rd *r, const void *from, void *to)
{
    const PB(Credential) *m = from;
    struct prog_credential *ret = to;

    TRY(dec_bytes(r, m->chain_pem, &ret->chain_pem));
    TRY(dec_bytes(r, m->key_pem, &ret->key_pem));
    TRY(dec_bytes(r, m->roots_pem, &ret->roots_pem));
    TRY(dec_bytes(r, m->crl_pem, &ret->crl_pem));
    return dec_text(r, m->revision, &ret->revision);
}

/* --- to text ---------------------------------------------------------------------------------- */
static const char *const tls_names[] = {
    [PROG_GATE_CLOSED] = "closed",
    [PROG_GATE_PLAIN] = "plain",
    [PROG_GATE_SIMPLE] = "simple",
    [PROG_GATE_MUTUAL] = "mutual",
    [PROG_GATE_OPTIONAL_MUTUAL] = "optional mutual",
    [PROG_GATE_MESH] = "mesh",
    [PROG_GATE_PASSTHROUGH] = "passthrough",
    [PROG_GATE_AUTO] = "auto passthrough",
};

static void list(struct buf *out, const char *indent, const char *name,
                 const struct prog_strings *l)
{
    if (!l->n)
        return;
    buf_addf(out, "%s  %s:", indent, name);
    for (uint32_t i = 0; i < l->n; i++)
        buf_addf(out, " %.*s", SL_FMT(l->p[i]));
    buf_add_char(out, '\n');
}

static void pins(struct buf *out, const char *indent, const char *name,
                 const struct prog_strings *l)
{
    for (uint32_t i = 0; i < l->n; i++) {
        buf_addf(out, "%s  %s: ", indent, name);
        for (size_t k = 0; k < l->p[i].len; k++)
            buf_addf(out, "%02x", (unsigned char)l->p[i].p[k]);
        buf_add_char(out, '\n');
    }
}

static void one(struct buf *out, const char *indent, const char *name, struct slice s)
{
    if (s.len)
        buf_addf(out, "%s  %s: %.*s\n", indent, name, SL_FMT(s));
}

void dump_gate(const struct prog_gate *g, const char *indent, struct buf *out)
{
    buf_addf(out, "%sgate %.*s: %s %s\n", indent, SL_FMT(g->name), tls_names[g->tls],
             g->http ? "http" : "bytes");
    list(out, indent, "sni", &g->sni);
    for (uint32_t i = 0; i < g->n_hosts; i++)
        buf_addf(out, "%s  host: %.*s%s%s\n", indent, SL_FMT(g->hosts[i].host),
                 g->hosts[i].routed ? " routed" : "", g->hosts[i].redirect ? " redirect" : "");
    list(out, indent, "credential", &g->credentials);
    one(out, indent, "ca credential", g->ca_credential);
    for (uint32_t i = 0; i < g->n_files; i++)
        buf_addf(out, "%s  files: %.*s, %.*s\n", indent, SL_FMT(g->files[i].certificate),
                 SL_FMT(g->files[i].key));
    one(out, indent, "roots", g->roots_file);
    one(out, indent, "revoked", g->crl_file);
    list(out, indent, "subject alt names", &g->subject_alt_names);
    pins(out, indent, "client certificate", &g->hashes);
    pins(out, indent, "client key", &g->keys);
    list(out, indent, "ciphers", &g->ciphers);
    if (prog_gate_ends_tls(g->tls))
        buf_addf(out, "%s  versions: 1.%u to 1.%u\n", indent, g->min_version - 10u,
                 g->max_version - 10u);
}

void dump_listeners(const struct prog_listeners *l, struct buf *out)
{
    for (uint32_t i = 0; i < l->n_ports; i++) {
        const struct prog_gate_port *p = &l->ports[i];

        buf_addf(out, "  port %u: number %u%s%.*s\n", p->port, p->number, p->bind.len ? " at " : "",
                 SL_FMT(p->bind));
        for (uint32_t k = 0; k < p->n_gates; k++)
            dump_gate(&p->gates[k], "    ", out);
    }
}

void dump_credential(const struct prog_credential *c, struct buf *out)
{
    buf_addf(out, "  chain: %zu bytes\n  key: %s\n  roots: %zu bytes\n  crl: %zu bytes\n",
             c->chain_pem.len, c->key_pem.len ? "present" : "none", c->roots_pem.len,
             c->crl_pem.len);
}

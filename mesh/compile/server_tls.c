/* SPDX-License-Identifier: Apache-2.0 */
/* TLS that proxies end: what a server of a Gateway or a port of a Sidecar asks for. */
#include "mesh/compile/compile_int.h"

enum { OLDEST = 12 };

static struct slice path(struct cc *c, const struct tls_source *s, const char *below)
{
    return cc_printf(c, "%.*s%s", SL_FMT(s->path), below);
}

/* --- Secrets ----------------------------------------------------------------------------------------- */
static const struct ix_secret *secret_of(struct cc *c, struct slice name)
{
    cc_dep(c, INDEX_TOKEN_SECRET(cc_ns(c), name));
    return index_secret(c->x, cc_ns(c), name);
}

static bool has_roots(struct cc *c, struct slice name)
{
    const struct ix_secret *s = secret_of(c, name);

    return s && s->roots.len;
}

static void missing(struct cc *c, const struct tls_source *s, const char *below, struct slice name,
                    const char *what)
{
    cc_problem(c, FINDING_REFERENCE, s->kind, s->meta, path(c, s, below), "Secret %.*s/%.*s %s",
               SL_FMT(cc_ns(c)), SL_FMT(name), what);
}

/* Name what is missing: nobody enters without it. Whether it is good the proxies say. */
static void check_secret(struct cc *c, const struct tls_source *s, const char *at,
                         struct slice name)
{
    const struct ix_secret *own = secret_of(c, name);

    if (!own)
        missing(c, s, at, name, s->kind == INDEX_GW
                                    ? "is not there, or the operator may not read it (the gateway's "
                                      "chart gives the right)"
                                    : "is not there, or the operator may not read it (it needs a Role "
                                      "and a RoleBinding in that namespace)");
    else if (own->broken)
        missing(c, s, at, name, "holds a value that is not base64");
    else if (!own->chain.len)
        missing(c, s, at, name, "has no certificate (tls.crt or cert)");
    else if (!own->key.len)
        missing(c, s, at, name, "has no private key (tls.key or key)");
}

static void check_secrets(struct cc *c, const struct tls_source *s, const struct gw_tls *t,
                          const struct prog_gate *to)
{
    const char *at = t->credential_name.len ? ".credentialName" : ".credentialNames";
    bool clients = to->tls == PROG_GATE_MUTUAL || to->tls == PROG_GATE_OPTIONAL_MUTUAL;
    struct slice first = to->credentials.p && to->credentials.n ? to->credentials.p[0] : SLICE_NULL;

    for (uint32_t i = 0; to->credentials.p && i < to->credentials.n; i++)
        check_secret(c, s, at, to->credentials.p[i]);
    if (!clients)
        return;
    if (to->ca_credential.len) {
        if (!has_roots(c, to->ca_credential))
            missing(c, s, ".caCertCredentialName", to->ca_credential,
                    "has no roots to verify clients by (ca.crt or cacert)");
    } else if (first.len && secret_of(c, first) && !has_roots(c, first) &&
               !has_roots(c, cc_printf(c, "%.*s-cacert", SL_FMT(first)))) {
        missing(c, s, at, first,
                "has no roots to verify clients by (ca.crt or cacert), nor has its -cacert twin");
    }
}

/* --- versions, names and pins ------------------------------------------------------------------------ */
static uint8_t version_of(enum gw_tls_version v, uint8_t otherwise)
{
    return v == GW_TLS_AUTO ? otherwise : v == GW_TLS_1_3 ? 13 : OLDEST;
}

static void versions(struct cc *c, const struct tls_source *s, const struct gw_tls *t,
                     struct prog_gate *to)
{
    to->min_version = version_of(t->min_version, OLDEST);
    to->max_version = version_of(t->max_version, 13);
    if (t->max_version == GW_TLS_1_0 || t->max_version == GW_TLS_1_1) {
        cc_problem(c, FINDING_CLOSED, s->kind, s->meta, path(c, s, ".maxProtocolVersion"),
                   "TLS before 1.2 is not spoken: nobody gets in");
        to->tls = PROG_GATE_CLOSED;
    }
}

/* Validation refuses what is no pin: it closes the door rather than to open it wider. */
static void pins(struct cc *c, const struct api_strings *from,
                 bool (*read)(struct slice, unsigned char *), struct prog_gate *to,
                 struct prog_strings *ret)
{
    unsigned char pin[32];

    *ret = cc_strings(c, from->n);
    for (uint32_t i = 0; ret->p && i < from->n; i++)
        if (read(from->p[i], pin))
            ret->p[ret->n++] = cc_copy(c, slice_of(pin, sizeof pin));
        else
            to->tls = PROG_GATE_CLOSED;
}

/* --- certificates ------------------------------------------------------------------------------------ */
static void files(struct cc *c, const struct gw_tls *t, struct prog_gate *to)
{
    const struct gw_tls_files *from = t->n_certificates ? t->certificates : &t->files;
    uint32_t n = t->n_certificates ? t->n_certificates : 1;

    to->roots_file = cc_copy(c, t->files.ca);
    to->crl_file = cc_copy(c, t->ca_crl);
    to->files = CC_ARRAY(c, struct prog_gate_files, n);
    for (uint32_t i = 0; to->files && i < n; i++) {
        to->files[to->n_files++] = (struct prog_gate_files){
            cc_copy(c, from[i].certificate), cc_copy(c, from[i].key)};
        if (!to->roots_file.len)
            to->roots_file = cc_copy(c, from[i].ca);
    }
}

void server_tls(struct cc *c, const struct tls_source *s, const struct gw_tls *t,
                struct prog_gate *to)
{
    to->min_version = OLDEST;
    to->max_version = 13;
    if (!t || !prog_gate_ends_tls(to->tls))
        return;
    versions(c, s, t, to);
    to->ciphers = cc_copy_strings(c, &t->ciphers);
    to->subject_alt_names = cc_copy_strings(c, &t->subject_alt_names);
    if (to->tls == PROG_GATE_MESH || to->tls == PROG_GATE_CLOSED)
        return;
    pins(c, &t->verify_hash, gw_pin_hash, to, &to->hashes);
    pins(c, &t->verify_spki, gw_pin_spki, to, &to->keys);
    to->ca_credential = cc_copy(c, t->ca_credential_name);
    if (t->credential_name.len) {
        to->credentials = cc_strings(c, 1);
        if (to->credentials.p)
            to->credentials.p[to->credentials.n++] = cc_copy(c, t->credential_name);
    } else if (t->credential_names.n) {
        to->credentials = cc_copy_strings(c, &t->credential_names);
    } else {
        files(c, t, to);
    }
    check_secrets(c, s, t, to);
}

bool server_tls_names(const struct gw_tls *t, struct slice secret)
{
    return slice_eq(t->credential_name, secret) || api_strings_has(&t->credential_names, secret) ||
           slice_eq(t->ca_credential_name, secret);
}

bool server_tls_secrets(const struct gw_tls *t)
{
    return t->credential_name.len || t->credential_names.n || t->ca_credential_name.len;
}

/* --- CREDENTIAL -------------------------------------------------------------------------------------- */
bool credential_fill(struct cc *c, struct slice name, struct prog_credential *ret)
{
    const struct ix_secret *s = secret_of(c, name);
    const struct ix_secret *roots = s;

    if (!s || s->broken)
        return false;
    if (!s->roots.len)
        roots = secret_of(c, cc_printf(c, "%.*s-cacert", SL_FMT(name)));
    ret->chain_pem = cc_copy(c, s->chain);
    ret->key_pem = cc_copy(c, s->key);
    if (roots && !roots->broken) {
        ret->roots_pem = cc_copy(c, roots->roots);
        ret->crl_pem = cc_copy(c, roots->crl);
    }
    ret->revision = roots && roots != s
                        ? cc_printf(c, "%.*s/%.*s", SL_FMT(s->revision), SL_FMT(roots->revision))
                        : cc_copy(c, s->revision);
    return ret->chain_pem.len || ret->roots_pem.len;
}

struct prog *compile_credential(struct cc *c, struct slice key)
{
    struct prog_credential *cred;
    bool needed;

    cc_dep(c, INDEX_TOKEN_POD(cc_ns(c), cc_pod(c)));
    cc_dep(c, INDEX_TOKEN_SECRET(cc_ns(c), key));
    needed = gateway_needs(c, key);
    needed |= rule_needs(c, key);
    needed |= ingress_needs(c, key);
    if (!needed)
        return NULL;
    cred = cc_prog(c, PROG_CREDENTIAL, sizeof *cred);
    return cred && credential_fill(c, key, cred) ? &cred->prog : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a Gateway, and what deserves a warning. */
#include "mesh/api/gw.h"

#include <string.h>

#include "lib/data/base64.h"
#include "lib/data/host.h"
#include "lib/data/ipaddr.h"
#include "mesh/api/check.h"
#include "mesh/api/shapes.h"

static const char *const modes[] = {"PASSTHROUGH",  "SIMPLE",          "MUTUAL", "AUTO_PASSTHROUGH",
                                    "ISTIO_MUTUAL", "OPTIONAL_MUTUAL", NULL};
static const char *const versions[] = {"TLS_AUTO", "TLSV1_0", "TLSV1_1",
                                       "TLSV1_2",  "TLSV1_3", NULL};

static void files(const struct rd *d, void *ret)
{
    struct gw_tls_files *x = ret;

    rd_str(d, "serverCertificate", &x->certificate);
    rd_str(d, "privateKey", &x->key);
    rd_str(d, "caCertificates", &x->ca);
}

void shape_server_tls(const struct rd *d, void *ret)
{
    struct gw_tls *x = ret;
    struct rd at;

    rd_bool(d, "httpsRedirect", &x->https_redirect);
    x->mode_set = rd_get(d, "mode", &at);
    x->mode = (enum gw_tls_mode)rd_enum(d, "mode", modes, GW_TLS_PASSTHROUGH);
    files(d, &x->files);
    rd_str(d, "caCrl", &x->ca_crl);
    rd_str(d, "credentialName", &x->credential_name);
    rd_strings(d, "credentialNames", &x->credential_names);
    rd_str(d, "caCertCredentialName", &x->ca_credential_name);
    x->certificates =
        rd_array(d, "tlsCertificates", sizeof *x->certificates, files, &x->n_certificates);
    rd_strings(d, "subjectAltNames", &x->subject_alt_names);
    rd_strings(d, "verifyCertificateSpki", &x->verify_spki);
    rd_strings(d, "verifyCertificateHash", &x->verify_hash);
    x->min_version = (enum gw_tls_version)rd_enum(d, "minProtocolVersion", versions, GW_TLS_AUTO);
    x->max_version = (enum gw_tls_version)rd_enum(d, "maxProtocolVersion", versions, GW_TLS_AUTO);
    rd_strings(d, "cipherSuites", &x->ciphers);
}

static void server(const struct rd *d, void *ret)
{
    struct gw_server *x = ret;
    struct rd at;

    if (rd_obj(d, "port", &at))
        rd_api_port(&at, &x->port);
    rd_str(d, "bind", &x->bind);
    rd_str(d, "name", &x->name);
    rd_str(d, "defaultEndpoint", &x->default_endpoint);
    rd_lower_strings(d, "hosts", &x->hosts);
    x->tls = rd_new(d, "tls", sizeof *x->tls, shape_server_tls);
}

int gw_decode(const json_t *obj, struct arena *a, struct gw **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct gw *gw = rd_alloc(&c, 1, sizeof *gw);

    if (!gw || rd_begin(&c, obj, false, &gw->meta, &root, &spec) < 0)
        return -1;
    rd_map(&spec, "selector", &gw->selector);
    gw->servers = rd_array(&spec, "servers", sizeof *gw->servers, server, &gw->n_servers);
    if (c.nomem)
        return -1;
    *ret = gw;
    return 0;
}

/* --- rules
 * -------------------------------------------------------------------------------------------- */

static bool one_of(struct slice s, const char *const *names)
{
    for (size_t i = 0; names[i]; i++)
        if (slice_ieq(s, slice_str(names[i])))
            return true;
    return false;
}

static bool is_tls(struct slice protocol)
{
    static const char *const names[] = {"https", "tls", NULL};

    return one_of(protocol, names);
}

static bool is_http(struct slice protocol)
{
    static const char *const names[] = {"http", "http2", "grpc", "grpc-web", "http_proxy", NULL};

    return one_of(protocol, names);
}

void shape_check_protocol(struct slice protocol, const struct fpath *at_port, struct findings *f)
{
    static const char *const names[] = {"mongo", "mysql", "redis", "tcp", "udp", "hbone", NULL};
    AT_KEY(at, *at_port, "protocol");

    if (protocol.len == 0)
        findings_add(f, FINDING_INVALID, &at,
                     "must be given: HTTP, HTTPS, HTTP2, GRPC, TCP or TLS");
    else if (!is_tls(protocol) && !is_http(protocol) && !one_of(protocol, names))
        findings_add(f, FINDING_INVALID, &at,
                     "must be HTTP, HTTPS, HTTP2, GRPC, MONGO, TCP or TLS, is \"%.*s\"",
                     SHOW(protocol));
}

void shape_check_ns_host(struct slice text, bool ns_needed, const struct fpath *at,
                         struct findings *f)
{
    ptrdiff_t slash = slice_chr(text, '/');
    struct slice ns = slash < 0 ? SLICE_NULL : slice_head(text, (size_t)slash);
    struct slice host = slash < 0 ? text : slice_skip(text, (size_t)slash + 1);

    if (slash < 0 && ns_needed) {
        findings_add(
            f, FINDING_INVALID, at,
            "must be namespace/host, is \"%.*s\": write ./ for this namespace or */ for all",
            SHOW(text));
        return;
    }
    if (ns_needed && ns.len > 1 && ns.p[0] == '~') /* a tilde before a namespace leaves it out */
        ns = slice_skip(ns, 1);
    if (slash >= 0 && !slice_is(ns, "*") && !slice_is(ns, ".") &&
        !(ns_needed && slice_is(ns, "~")) && !label_valid(ns)) {
        findings_add(f, FINDING_INVALID, at, "\"%.*s\" is no namespace", SHOW(ns));
        return;
    }
    check_host(host, true, at, f);
}

void shape_check_default_endpoint(struct slice text, bool ingress, const struct fpath *at,
                                  struct findings *f)
{
    static const char *const prefixes[] = {"127.0.0.1:", "[::1]:", "0.0.0.0:", "[::]:", NULL};
    uint64_t number;

    if (slice_starts(text, SL("unix://"))) {
        if (text.len == 7 || (text.p[7] != '/' && text.p[7] != '@'))
            findings_add(f, FINDING_INVALID, at,
                         "must name a socket: unix:///path or unix://@name");
        return;
    }
    for (size_t i = 0; prefixes[i]; i++) {
        if (!slice_starts(text, slice_str(prefixes[i])) || (!ingress && i >= 2))
            continue;
        if (!slice_u64(slice_skip(text, strlen(prefixes[i])), 65535, &number) || number == 0)
            break;
        return;
    }
    findings_add(
        f, FINDING_INVALID, at,
        "must be 127.0.0.1:PORT%s or unix:///path, is \"%.*s\": only the workload itself is "
        "called",
        ingress ? ", 0.0.0.0:PORT" : "", SHOW(text));
}

void shape_check_target(const struct api_selector *s, const struct api_target_refs *t,
                        struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(selector, spec, "selector");

    if (s->set && t->n)
        findings_add(f, FINDING_INVALID, &spec, "has both selector and targetRefs: keep one");
    check_selector(s, &selector, f);
}

bool gw_pin_spki(struct slice text, unsigned char ret[32])
{
    struct buf b;
    bool good;

    buf_init(&b, 256);
    good = base64_decode(text, BASE64_STD, &b) == ERR_OK && buf_len(&b) == 32;
    if (good)
        memcpy(ret, buf_slice(&b).p, 32);
    buf_fini(&b);
    return good;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

bool gw_pin_hash(struct slice text, unsigned char ret[32])
{
    size_t step = text.len == 64 ? 2 : 3;

    if (text.len != 64 && text.len != 95)
        return false;
    for (size_t i = 0; i < 32; i++) {
        int high = digit(text.p[i * step]), low = digit(text.p[i * step + 1]);

        if (high < 0 || low < 0 || (step == 3 && i < 31 && text.p[i * 3 + 2] != ':'))
            return false;
        ret[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static void check_pins(const struct gw_tls *t, const struct fpath *at, struct findings *f)
{
    AT_KEY(keys, *at, "verifyCertificateSpki");
    AT_KEY(hashes, *at, "verifyCertificateHash");
    bool clients = t->mode == GW_TLS_MUTUAL || t->mode == GW_TLS_OPTIONAL_MUTUAL;
    unsigned char pin[32];

    for (uint32_t i = 0; i < t->verify_spki.n; i++) {
        AT_INDEX(item, keys, i);

        if (!gw_pin_spki(t->verify_spki.p[i], pin))
            findings_add(f, FINDING_INVALID, &item,
                         "must be the SHA-256 of a public key in base64, is \"%.*s\"",
                         SHOW(t->verify_spki.p[i]));
    }
    for (uint32_t i = 0; i < t->verify_hash.n; i++) {
        AT_INDEX(item, hashes, i);

        if (!gw_pin_hash(t->verify_hash.p[i], pin))
            findings_add(f, FINDING_INVALID, &item,
                         "must be the SHA-256 of a certificate in hex, is \"%.*s\"",
                         SHOW(t->verify_hash.p[i]));
    }
    if ((t->verify_spki.n || t->verify_hash.n) && !clients)
        findings_add(f, FINDING_SUSPECT, t->verify_spki.n ? &keys : &hashes,
                     "only modes MUTUAL and OPTIONAL_MUTUAL ask clients for a certificate");
}

static void check_files(const struct gw_tls *t, const struct fpath *at, struct findings *f)
{
    bool secret = t->credential_name.len || t->credential_names.n;
    bool certificate = t->files.certificate.len || t->n_certificates;
    bool key = t->files.key.len || t->n_certificates;
    bool ca = t->files.ca.len || t->ca_credential_name.len;
    AT_KEY(roots, *at, "caCertificates");
    AT_KEY(crl, *at, "caCrl");

    for (uint32_t i = 0; i < t->n_certificates; i++) {
        ca |= t->certificates[i].ca.len != 0;
        if (!t->certificates[i].certificate.len || !t->certificates[i].key.len)
            findings_add(f, FINDING_INVALID, at,
                         "each of tlsCertificates needs serverCertificate and privateKey");
    }
    if (secret && (t->files.ca.len || t->ca_crl.len))
        findings_add(f, FINDING_SUSPECT, t->files.ca.len ? &roots : &crl,
                     "is not read beside credentialName: put it into the Secret");

    if (t->n_certificates && (t->files.certificate.len || t->files.key.len))
        findings_add(f, FINDING_INVALID, at,
                     "has both serverCertificate and tlsCertificates: keep one");
    if (secret && certificate)
        findings_add(f, FINDING_INVALID, at, "has both credentialName and files: keep one");
    if (secret)
        return;
    if (!certificate)
        findings_add(f, FINDING_INVALID, at,
                     "mode %s needs credentialName, or serverCertificate and privateKey",
                     modes[t->mode]);
    else if (!key)
        findings_add(f, FINDING_INVALID, at, "serverCertificate needs its privateKey");
    if (t->mode != GW_TLS_SIMPLE && certificate && !ca)
        findings_add(f, FINDING_INVALID, at, "mode %s needs caCertificates to verify clients by",
                     modes[t->mode]);
}

void shape_check_server_tls(const struct gw_tls *t, struct slice protocol, const struct fpath *at,
                            struct findings *f)
{
    AT_KEY(redirect, *at, "httpsRedirect");
    AT_KEY(max, *at, "maxProtocolVersion");
    AT_KEY(suites, *at, "cipherSuites");
    AT_KEY(names, *at, "credentialNames");
    bool any = t->files.certificate.len || t->files.key.len || t->files.ca.len ||
               t->n_certificates || t->credential_name.len || t->credential_names.n;

    if (t->https_redirect && is_tls(protocol))
        findings_add(f, FINDING_SUSPECT, &redirect,
                     "is for plaintext servers: leave it out, or put it on the HTTP port");
    if (t->max_version && t->min_version > t->max_version)
        findings_add(f, FINDING_INVALID, &max, "must not be older than minProtocolVersion");
    if (t->credential_name.len && t->credential_names.n)
        findings_add(f, FINDING_INVALID, &names, "excludes credentialName: keep one");
    check_pins(t, at, f);
    for (uint32_t i = 0; i < t->ciphers.n; i++) {
        AT_INDEX(item, suites, i);

        for (uint32_t j = 0; j < i; j++)
            if (slice_eq(t->ciphers.p[i], t->ciphers.p[j])) {
                findings_add(f, FINDING_SUSPECT, &item, "\"%.*s\" is listed twice",
                             SHOW(t->ciphers.p[i]));
                break;
            }
    }
    switch (t->mode) {
    case GW_TLS_SIMPLE:
    case GW_TLS_MUTUAL:
    case GW_TLS_OPTIONAL_MUTUAL:
        check_files(t, at, f);
        break;
    case GW_TLS_ISTIO_MUTUAL:
        if (any)
            findings_add(f, FINDING_INVALID, at,
                         "mode ISTIO_MUTUAL uses the workload's own certificate: leave the others "
                         "out");
        break;
    case GW_TLS_PASSTHROUGH:
    case GW_TLS_AUTO_PASSTHROUGH:
        if (any && t->mode_set)
            findings_add(f, FINDING_SUSPECT, at, "mode %s ends no TLS: certificates are unused",
                         modes[t->mode]);
    }
}

static void check_tls(const struct gw_server *s, const struct fpath *at, struct findings *f)
{
    AT_KEY(tls, *at, "tls");

    if (!s->tls) {
        if (is_tls(s->port.protocol))
            findings_add(f, FINDING_INVALID, &tls, "is needed: protocol %.*s has TLS settings",
                         SHOW(s->port.protocol));
        return;
    }
    if (is_tls(s->port.protocol)) {
        shape_check_server_tls(s->tls, s->port.protocol, &tls, f);
        return;
    }
    if (is_http(s->port.protocol) && s->tls->mode == GW_TLS_PASSTHROUGH &&
        !s->tls->files.certificate.len && !s->tls->files.key.len && !s->tls->files.ca.len)
        return; /* httpsRedirect alone */
    findings_add(f, FINDING_INVALID, &tls,
                 "a port of protocol %.*s has no TLS%s: write HTTPS or TLS, or leave tls out",
                 SHOW(s->port.protocol), is_http(s->port.protocol) ? " but httpsRedirect" : "");
}

static void check_server(const struct gw_server *s, const struct fpath *at, struct findings *f)
{
    AT_KEY(at_port, *at, "port");
    AT_KEY(number, at_port, "number");
    AT_KEY(name, at_port, "name");
    AT_KEY(bind, *at, "bind");
    AT_KEY(hosts, *at, "hosts");
    AT_KEY(target, *at, "defaultEndpoint");
    bool socket = slice_starts(s->bind, SL("unix://"));
    struct ipaddr ip;

    if (socket && s->port.number)
        findings_add(f, FINDING_INVALID, &number, "must be 0 for a unix socket");
    else if (!socket)
        check_port(s->port.number, &number, f);
    if (s->port.name.len == 0)
        findings_add(f, FINDING_INVALID, &name, "must be given");
    shape_check_protocol(s->port.protocol, &at_port, f);
    if (s->bind.len && !socket && !ip_parse(s->bind, &ip))
        findings_add(f, FINDING_INVALID, &bind, "must be an address or unix:///path, is \"%.*s\"",
                     SHOW(s->bind));
    if (s->hosts.n == 0)
        findings_add(f, FINDING_INVALID, &hosts, "must list at least one host");
    for (uint32_t i = 0; i < s->hosts.n; i++) {
        AT_INDEX(item, hosts, i);
        shape_check_ns_host(s->hosts.p[i], false, &item, f);
    }
    if (s->default_endpoint.len)
        shape_check_default_endpoint(s->default_endpoint, false, &target, f);
    check_tls(s, at, f);
}

void gw_validate(const struct gw *gw, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(list, spec, "servers");
    AT_KEY(selector, spec, "selector");

    if (gw->n_servers == 0)
        findings_add(f, FINDING_INVALID, &list, "must hold at least one server");
    for (uint32_t i = 0; i < gw->n_servers; i++) {
        const struct gw_server *s = &gw->servers[i];
        AT_INDEX(at, list, i);
        AT_KEY(at_port, at, "port");
        AT_KEY(port_name, at_port, "name");
        AT_KEY(name, at, "name");

        check_server(s, &at, f);
        for (uint32_t j = 0; j < i; j++) {
            if (s->port.name.len && slice_eq(s->port.name, gw->servers[j].port.name))
                findings_add(f, FINDING_INVALID, &port_name, "\"%.*s\" names an earlier port too",
                             SHOW(s->port.name));
            if (s->name.len && slice_eq(s->name, gw->servers[j].name))
                findings_add(f, FINDING_INVALID, &name, "\"%.*s\" names an earlier server too",
                             SHOW(s->name));
        }
    }
    if (gw->selector.n == 0)
        findings_add(f, FINDING_SUSPECT, &selector,
                     "without labels every pod of the namespace is a gateway: name the gateway's "
                     "labels");
    check_labels(&gw->selector, &selector, f);
}

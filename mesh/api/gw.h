/* SPDX-License-Identifier: Apache-2.0 */
/* Gateway (networking.istio.io v1, v1beta1, v1alpha3): every field of the public schema. */
#pragma once

#include "mesh/api/common.h"

enum gw_tls_mode {
    GW_TLS_PASSTHROUGH, /* also when no mode is written */
    GW_TLS_SIMPLE,
    GW_TLS_MUTUAL,
    GW_TLS_AUTO_PASSTHROUGH,
    GW_TLS_ISTIO_MUTUAL,
    GW_TLS_OPTIONAL_MUTUAL,
};
enum gw_tls_version { GW_TLS_AUTO, GW_TLS_1_0, GW_TLS_1_1, GW_TLS_1_2, GW_TLS_1_3 };
struct gw_tls_files {
    struct slice certificate, key, ca;
};
struct gw_tls { /* ServerTLSSettings */
    bool https_redirect, mode_set;
    enum gw_tls_mode mode;
    struct gw_tls_files files;
    struct slice ca_crl, credential_name, ca_credential_name;
    struct api_strings credential_names, subject_alt_names, verify_spki, verify_hash, ciphers;
    struct gw_tls_files *certificates;
    uint32_t n_certificates;
    enum gw_tls_version min_version, max_version;
};
struct gw_server {
    struct api_port port; /* number 0 when absent */
    struct slice bind, name, default_endpoint;
    struct api_strings hosts; /* lower case; "host" or "namespace/host" */
    struct gw_tls *tls;       /* NULL: none */
};
struct gw {
    struct obj_meta meta;
    struct api_map selector; /* of the gateway's pods; empty: every pod */
    struct gw_server *servers;
    uint32_t n_servers;
};

/* A pin as written: base64 of the SHA-256 of a public key, hex (colons between bytes are fine) of that of a
 * certificate. False: it is none. */
bool gw_pin_spki(struct slice text, unsigned char ret[32]);
bool gw_pin_hash(struct slice text, unsigned char ret[32]);

int gw_decode(const json_t *obj, struct arena *a, struct gw **ret, struct findings *f);
void gw_validate(const struct gw *gw, struct findings *f);

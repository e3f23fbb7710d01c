/* SPDX-License-Identifier: Apache-2.0 */
/* module: lib/kube */
/* A kubeconfig as people have them. What is accepted says clearly where and as whom to call, and
 * says the same when it is read again. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"
#include "lib/data/json.h"
#include "lib/kube/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static bool same(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(kube_config_freep) struct kube_config *c = NULL;
    CLEANUP(kube_config_freep) struct kube_config *again = NULL;
    struct err err = {0};

    json_setup();
    if (kube_config_parse(slice_of(p, n), "/base", NULL, &c, &err) < 0) {
        must(!c && err.msg[0]);
        must(err.code == ERR_INVALID || err.code == ERR_UNSUPPORTED || err.code == ERR_LIMIT);
        return 0;
    }
    must(c->server && c->server[0] && c->server[strlen(c->server) - 1] != '/');
    must(c->context && c->ns);
    must(!(c->ca_file && c->ca_data) && !(c->cert_file && c->cert_data) &&
         !(c->key_file && c->key_data) && !(c->token_file && c->token));
    must((c->cert_file || c->cert_data) == (c->key_file || c->key_data));
    must(!c->insecure || (!c->ca_file && !c->ca_data));
    must(kube_config_parse(slice_of(p, n), "/base", NULL, &again, &err) == 0);
    must(same(c->server, again->server) && same(c->token, again->token) &&
         same(c->ca_data, again->ca_data) && same(c->ns, again->ns) &&
         same(c->tls_name, again->tls_name));
    return 0;
}

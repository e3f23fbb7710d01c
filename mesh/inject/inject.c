/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/inject/inject.h"

#include <string.h>

#include "lib/data/jpatch.h"
#include "mesh/inject/inject_int.h"

/* The object or array under `key`, made when it is not there; NULL (and *err) when it is something
 * else. */
static json_t *ensure(struct inject *in, json_t *obj, const char *key, bool array, struct err *err)
{
    json_t *v = json_object_get(obj, key);
    if (!v || json_is_null(v)) {
        jput(in, obj, key, array ? json_array() : json_object());
        v = json_object_get(obj, key);
        if (!v)
            err_set(err, ERR_NOMEM, "pod");
        return v;
    }
    if (array ? json_is_array(v) : json_is_object(v))
        return v;
    err_set(err, ERR_INVALID, "pod: %s must be %s", key, array ? "an array" : "an object");
    return NULL;
}

static int pod_open(struct inject *in, struct err *err)
{
    in->pod = json_deep_copy(in->req->pod);
    if (!in->pod)
        return err_set(err, ERR_NOMEM, "pod");
    if (!(in->meta = ensure(in, in->pod, "metadata", false, err)) ||
        !(in->spec = ensure(in, in->pod, "spec", false, err)) ||
        !(in->labels = ensure(in, in->meta, "labels", false, err)) ||
        !(in->annotations = ensure(in, in->meta, "annotations", false, err)) ||
        !(in->containers = ensure(in, in->spec, "containers", true, err)) ||
        !(in->inits = ensure(in, in->spec, "initContainers", true, err)))
        return -1;
    return 0;
}

/* What was made by pod_open and not used goes again, so that the patch does not speak of it. */
static void pod_close(struct inject *in)
{
    const json_t *was_meta = jobj(in->req->pod, "metadata"), *was = jobj(in->req->pod, "spec");
    if (!json_array_size(in->inits) && !json_object_get(was, "initContainers"))
        json_object_del(in->spec, "initContainers");
    if (!json_object_size(in->labels) && !json_object_get(was_meta, "labels"))
        json_object_del(in->meta, "labels");
    if (!json_object_size(in->annotations) && !json_object_get(was_meta, "annotations"))
        json_object_del(in->meta, "annotations");
}

/* --- warnings that concern the whole pod --------------------------------------------------------
 */
static void warn_user(struct inject *in, const json_t *holder, const char *what)
{
    const json_t *sc = jobj(holder, "securityContext");
    const char *name = jstr(holder, "name");
    static const char *const fields[] = {"runAsUser", "runAsGroup"};
    for (size_t i = 0; i < N_OF(fields); i++)
        if (json_integer_value(json_object_get(sc, fields[i])) == PROXY_ID) {
            inject_warn(in,
                        "%s%s%s: %s %d is the sidecar's own; traffic of this application will "
                        "bypass the mesh",
                        what, name ? " " : "", name ? name : "", fields[i], PROXY_ID);
            return;
        }
}

static void warn_users(struct inject *in)
{
    static const char *const lists[] = {"containers", "initContainers"};
    size_t k;
    const json_t *c;
    warn_user(in, in->spec, "pod");
    for (size_t i = 0; i < N_OF(lists); i++)
        json_array_foreach(jarr(in->spec, lists[i]), k, c)
        {
            const char *name = jstr(c, "name");
            if (!name || (strcmp(name, PROXY_NAME) != 0 && strcmp(name, INIT_NAME) != 0))
                warn_user(in, c, "container");
        }
}

static void warn_all(struct inject *in)
{
    warn_users(in);
    if (in->opt.capture && jhas(in->set->no_net_admin, in->req->ns))
        inject_warn(in,
                    "namespace %s: its Pod Security level forbids NET_ADMIN, which " INIT_NAME
                    " needs; the pod will be refused until the level is privileged",
                    in->req->ns);
}

/* --- the two passes -----------------------------------------------------------------------------
 */
static json_t *find_proxy(struct inject *in, bool *ret_native)
{
    json_t *c = jnamed(in->inits, PROXY_NAME, NULL);
    *ret_native = c != NULL;
    return c ? c : jnamed(in->containers, PROXY_NAME, NULL);
}

static int pass_first(struct inject *in, struct err *err)
{
    bool native;
    json_t *proxy;

    inject_workload(in);
    if (inject_read_options(in, err) < 0)
        return -1;
    warn_all(in);
    if (inject_add_containers(in, err) < 0)
        return -1;
    proxy = find_proxy(in, &native);
    if (!proxy)
        return err_set(err, ERR_NOMEM, "sidecar");
    inject_add_volumes(in);
    inject_prometheus(in, proxy);
    if (in->opt.rewrite_probes)
        inject_rewrite_probes(in, proxy, native);
    inject_add_metadata(in);
    return 0;
}

/* Injected before: only what another webhook added since is of interest. */
static int pass_again(struct inject *in)
{
    bool native, rewrite = in->set->rewrite_probes;
    json_t *proxy = find_proxy(in, &native), *init;
    const char *asked = jstr(in->annotations, "sidecar.istio.io/rewriteAppHTTPProbers");
    size_t at;

    if (asked)
        inject_parse_bool(asked, &rewrite);
    if (proxy && rewrite)
        inject_rewrite_probes(in, proxy, native);
    init = jnamed(in->inits, INIT_NAME, &at);
    if (init && !native && at + 1 < json_array_size(in->inits)) {
        json_incref(init);
        json_array_remove(in->inits, at);
        jadd(in, in->inits, init);
    }
    return 0;
}

static void inject_fini(struct inject *in)
{
    json_decref(in->pod);
    json_decref(in->warnings);
    json_decref(in->added_volumes);
    json_decref(in->opt.proxy_config);
    json_decref(in->opt.user_volumes);
    json_decref(in->opt.user_mounts);
}

int inject_pod(const struct inject_settings *s, const struct inject_request *req,
               struct inject_result *ret, struct err *err)
{
    CLEANUP(inject_fini) struct inject in = {.set = s, .req = req, .workload = ""};
    struct inject_result r = {.reason = inject_decide(s, req)};

    r.inject = inject_reason_is_yes(r.reason);
    in.warnings = json_array();
    if (!json_is_object(req->pod))
        return err_set(err, ERR_INVALID, "pod: must be an object");
    if (!in.warnings)
        return err_set(err, ERR_NOMEM, "injection");
    if (r.inject) {
        if (pod_open(&in, err) < 0)
            return -1;
        if ((r.reason == INJECT_ALREADY_ ? pass_again(&in) : pass_first(&in, err)) < 0)
            return -1;
        pod_close(&in);
    } else {
        const char *asks =
            jstr(jobj(jobj(req->pod, "metadata"), "labels"), "sidecar.istio.io/inject");
        if (r.reason == INJECT_HOST_NETWORK_ && asks && strcmp(asks, "true") == 0)
            inject_warn(&in, "no sidecar was injected: %s", inject_reason_text(r.reason));
        in.pod = json_incref((json_t *)(uintptr_t)req->pod); /* as it is */
    }
    r.patch = in.oom || !in.pod ? NULL : jpatch_diff(req->pod, in.pod);
    if (!r.patch)
        return err_set(err, ERR_NOMEM, "injection");
    r.pod = TAKE(in.pod);
    r.warnings = TAKE(in.warnings);
    *ret = r;
    return 0;
}

void inject_result_fini(struct inject_result *r)
{
    json_decref(r->patch);
    json_decref(r->pod);
    json_decref(r->warnings);
    memset(r, 0, sizeof *r);
}

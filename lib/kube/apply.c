/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/kube/apply.h"

#include "lib/base/mem.h"

struct write {
    const char *method, *ns, *name, *sub, *content_type, *manager;
    const json_t *body;
    bool force;
};

static struct kube_call *send(struct kube_client *c, const struct kube_resource *r,
                              const struct write *w, kube_done_fn *done, void *user)
{
    CLEANUP(buf_freep) struct buf q;
    buf_init(&q, 4096);
    CLEANUP(mem_freep) char *path = kube_path(r, w->ns, w->name, w->sub, NULL);
    if (w->manager)
        kube_query_add(&q, "fieldManager", w->manager);
    if (w->force)
        kube_query_add(&q, "force", "true");
    struct kube_req req = {.method = w->method,
                           .path = path,
                           .query = buf_cstr(&q),
                           .content_type = w->content_type,
                           .body = w->body};
    return path && !buf_err(&q) ? kube_request(c, &req, done, user) : NULL;
}

/* A copy of obj (the top and its metadata only) with what the path says already. */
static json_t *completed(const struct kube_resource *r, const char *ns, const char *name,
                         const json_t *obj)
{
    char version[256];
    json_t *copy = json_copy((json_t *)(uintptr_t)obj);
    json_t *meta = json_copy(json_object_get(obj, "metadata"));
    if (!meta)
        meta = json_object();
    bool ok = copy && meta;
    if (ok && !json_object_get(copy, "apiVersion"))
        ok = json_object_set_new(copy, "apiVersion",
                                 json_string(kube_api_version(r, version, sizeof version))) == 0;
    if (ok && !json_object_get(copy, "kind"))
        ok = json_object_set_new(copy, "kind", json_string(r->kind)) == 0;
    if (ok && name && !json_object_get(meta, "name"))
        ok = json_object_set_new(meta, "name", json_string(name)) == 0;
    if (ok && r->namespaced && ns && *ns && !json_object_get(meta, "namespace"))
        ok = json_object_set_new(meta, "namespace", json_string(ns)) == 0;
    if (ok && json_object_set(copy, "metadata", meta) == 0) {
        json_decref(meta);
        return copy;
    }
    json_decref(meta);
    json_decref(copy);
    return NULL;
}

struct kube_call *kube_apply(struct kube_client *c, const struct kube_resource *r, const char *ns,
                             const char *name, const char *sub, const json_t *obj,
                             const char *manager, bool force, kube_done_fn *done, void *user)
{
    json_t *body = completed(r, ns, name, obj);
    if (!body)
        return NULL;
    struct write w = {.method = "PATCH",
                      .ns = ns,
                      .name = name,
                      .sub = sub,
                      .content_type = "application/apply-patch+yaml",
                      .manager = manager,
                      .body = body,
                      .force = force};
    struct kube_call *call = send(c, r, &w, done, user);
    json_decref(body);
    return call;
}

struct kube_call *kube_create(struct kube_client *c, const struct kube_resource *r, const char *ns,
                              const json_t *obj, const char *manager, kube_done_fn *done,
                              void *user)
{
    json_t *body = completed(r, ns, NULL, obj);
    if (!body)
        return NULL;
    struct write w = {.method = "POST", .ns = ns, .manager = manager, .body = body};
    struct kube_call *call = send(c, r, &w, done, user);
    json_decref(body);
    return call;
}

struct kube_call *kube_get(struct kube_client *c, const struct kube_resource *r, const char *ns,
                           const char *name, kube_done_fn *done, void *user)
{
    struct write w = {.method = "GET", .ns = ns, .name = name};
    return send(c, r, &w, done, user);
}

struct kube_call *kube_update(struct kube_client *c, const struct kube_resource *r, const char *ns,
                              const char *name, const json_t *obj, const char *manager,
                              kube_done_fn *done, void *user)
{
    json_t *body = completed(r, ns, name, obj);
    if (!body)
        return NULL;
    struct write w = {.method = "PUT", .ns = ns, .name = name, .manager = manager, .body = body};
    struct kube_call *call = send(c, r, &w, done, user);
    json_decref(body);
    return call;
}

struct kube_call *kube_delete(struct kube_client *c, const struct kube_resource *r, const char *ns,
                              const char *name, const char *uid, const char *rv, kube_done_fn *done,
                              void *user)
{
    json_t *body = NULL;
    if (uid || rv)
        body = json_pack("{s:s, s:s, s:{s:s*, s:s*}}", "apiVersion", "v1", "kind", "DeleteOptions",
                         "preconditions", "uid", uid, "resourceVersion", rv);
    if ((uid || rv) && !body)
        return NULL; /* never delete without the precondition that was asked for */
    struct write w = {.method = "DELETE", .ns = ns, .name = name, .body = body};
    struct kube_call *call = send(c, r, &w, done, user);
    json_decref(body);
    return call;
}

struct kube_call *kube_patch_json(struct kube_client *c, const struct kube_resource *r,
                                  const char *ns, const char *name, const char *sub,
                                  const json_t *ops, const char *manager, kube_done_fn *done,
                                  void *user)
{
    struct write w = {.method = "PATCH",
                      .ns = ns,
                      .name = name,
                      .sub = sub,
                      .content_type = "application/json-patch+json",
                      .manager = manager,
                      .body = ops};
    return send(c, r, &w, done, user);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/plan.h"

#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"

struct plan_run {
    struct kube_client *kube;
    struct plan plan;
    size_t at;
    struct kube_call *call;
    plan_done_fn *done;
    void *user;
};

void plan_add(struct plan *p, enum plan_verb verb, enum kube_kind kind, struct slice ns,
              struct slice name, const char *manager, json_t *body)
{
    struct plan_step *s = verb != PLAN_DELETE && !body ? NULL : VEC_PUSH(&p->steps);
    if (!s) {
        json_decref(body);
        p->nomem = true;
        return;
    }
    *s = (struct plan_step){.verb = verb, .kind = kind, .manager = manager, .body = body};
    slice_copy(ns, s->ns, sizeof s->ns);
    slice_copy(name, s->name, sizeof s->name);
}

void plan_fini(struct plan *p)
{
    for (size_t i = 0; i < p->steps.len; i++)
        json_decref(p->steps.p[i].body);
    VEC_FREE(&p->steps);
    p->nomem = false;
}

void plan_text(const struct plan *p, struct buf *out)
{
    static const char *const verbs[] = {"apply", "status", "delete"};
    for (size_t i = 0; i < p->steps.len; i++) {
        const struct plan_step *s = &p->steps.p[i];
        buf_addf(out, "%s %s %s%s%s", verbs[s->verb], kube_resource(s->kind)->kind, s->ns,
                 s->ns[0] ? "/" : "", s->name);
        if (s->body) {
            buf_addf(out, " as %s", s->manager);
            if (s->kind != KUBE_SECRET) {
                buf_add_char(out, ' ');
                json_write(s->body, JSON_TIGHT, out);
            }
        }
        buf_add_char(out, '\n');
    }
}

static void step(struct plan_run *r);

static void over(struct plan_run *r, const struct err *err)
{
    plan_done_fn *done = r->done;
    void *user = r->user;
    plan_fini(&r->plan);
    mem_free(r);
    done(user, err);
}

static void stepped(void *user, struct kube_resp *resp)
{
    struct plan_run *r = user;
    const struct plan_step *s = &r->plan.steps.p[r->at];
    r->call = NULL;
    if (resp->err.code != ERR_OK && !(s->verb == PLAN_DELETE && resp->err.code == ERR_NOT_FOUND)) {
        struct err err = resp->err;
        err_wrap(&err, "%s %s/%s", kube_resource(s->kind)->kind, s->ns, s->name);
        over(r, &err);
        return;
    }
    LOG(DEBUG, "Written", "kind=%s object=%s/%s verb=%d", kube_resource(s->kind)->kind, s->ns,
        s->name, (int)s->verb);
    r->at++;
    step(r);
}

static struct kube_call *begin(struct plan_run *r)
{
    const struct plan_step *s = &r->plan.steps.p[r->at];
    const struct kube_resource *res = kube_resource(s->kind);
    if (s->verb == PLAN_DELETE)
        return kube_delete(r->kube, res, s->ns, s->name, NULL, NULL, stepped, r);
    return kube_apply(r->kube, res, s->ns, s->name, s->verb == PLAN_STATUS ? "status" : NULL,
                      s->body, s->manager, true, stepped, r);
}

static void step(struct plan_run *r)
{
    struct err err = {0};
    if (r->at >= r->plan.steps.len) {
        over(r, NULL);
    } else if (!(r->call = begin(r))) {
        err_set(&err, ERR_NOMEM, "writing %s", r->plan.steps.p[r->at].name);
        over(r, &err);
    }
}

struct plan_run *plan_run(struct kube_client *kube, struct plan *p, plan_done_fn *done, void *user)
{
    struct plan_run *r = p->nomem || !p->steps.len ? NULL : mem_zalloc(sizeof *r);
    if (!r)
        return NULL;
    r->kube = kube;
    r->plan = *p;
    r->done = done;
    r->user = user;
    *p = (struct plan){0};
    r->call = begin(r);
    if (!r->call) {
        plan_fini(&r->plan);
        mem_free(r);
        return NULL;
    }
    return r;
}

void plan_cancel(struct plan_run *r)
{
    if (!r)
        return;
    kube_cancel(r->call);
    plan_fini(&r->plan);
    mem_free(r);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/ctl.h"

#include <string.h>

#include "lib/base/log.h"
#include "lib/base/mem.h"

struct ctl_job { /* a key whose plan is being written */
    struct ctl *ctl;
    struct ctl_job *next, **pprev;
    struct plan_run *run;
    int64_t recheck_ns, begun_ns;
    size_t len;
    char key[400];
};

static void measured(struct ctl *c, const char *result, int64_t begun_ns)
{
    struct opm *m = &c->op->metrics;
    int64_t now = clock_now(loop_clock(c->op->loop));
    metrics_add(opm_row(m, OPM_RECONCILE, c->name, result, NULL), 0, 1);
    struct metrics_row *row = opm_row(m, OPM_CONTROLLER, c->name, NULL, NULL);
    metrics_observe(row, OPM_RECONCILE_TIME, (double)(now - begun_ns) / 1e9);
    if (strcmp(result, "error") == 0)
        metrics_add(row, OPM_RECONCILE_ERRORS, 1);
}

static void finish(struct ctl *c, struct slice key, const struct err *err, int64_t recheck_ns,
                   int64_t begun_ns)
{
    struct kube_verdict v = recheck_ns ? kube_after(recheck_ns) : kube_done();
    if (err && err->code != ERR_NOT_FOUND) {
        LOG(WARN, "Reconciliation failed; trying again", "controller=%s key=%.*s reason=%s", c->name,
            SL_FMT(key), err->msg);
        v = kube_retry();
    }
    measured(c, err ? "error" : recheck_ns ? "requeue_after" : "success", begun_ns);
    kube_queue_done(c->queue, key, v);
}

static void job_free(struct ctl_job *j)
{
    *j->pprev = j->next;
    if (j->next)
        j->next->pprev = j->pprev;
    mem_free(j);
}

static void written(void *user, const struct err *err)
{
    struct ctl_job *j = user;
    struct ctl *c = j->ctl;
    struct slice key = slice_of(j->key, j->len);
    if (!err && c->written)
        c->written(c, key);
    finish(c, key, err, j->recheck_ns, j->begun_ns);
    job_free(j);
}

static void work(void *user, struct slice key)
{
    struct ctl *c = user;
    CLEANUP(plan_fini) struct plan plan = {0};
    struct err err = {0};
    int64_t recheck = 0, now = clock_now(loop_clock(c->op->loop));
    struct ctl_job *j;

    int rc = c->plan(c, key, &plan, &recheck, &err);
    if (rc < 0 && err.code == ERR_AGAIN) {
        kube_queue_done(c->queue, key, recheck ? kube_after(recheck) : kube_done());
        return;
    }
    if (rc < 0 || plan.nomem) {
        if (plan.nomem)
            err_set(&err, ERR_NOMEM, "planning");
        finish(c, key, &err, 0, now);
        return;
    }
    if (!plan.steps.len) {
        finish(c, key, NULL, recheck, now);
        return;
    }
    if (log_threshold >= LOG_DEBUG) {
        CLEANUP(buf_freep) struct buf text;
        buf_init(&text, 64 * 1024);
        plan_text(&plan, &text);
        LOG(DEBUG, "Planned", "controller=%s plan=%s", c->name, buf_cstr(&text));
    }
    j = key.len < sizeof j->key ? mem_zalloc(sizeof *j) : NULL;
    if (!j) {
        err_set(&err, ERR_NOMEM, "plan");
        finish(c, key, &err, 0, now);
        return;
    }
    j->ctl = c;
    j->recheck_ns = recheck;
    j->begun_ns = now;
    j->len = key.len;
    memcpy(j->key, key.p, key.len);
    j->next = c->jobs;
    j->pprev = &c->jobs;
    if (c->jobs)
        c->jobs->pprev = &j->next;
    c->jobs = j;
    j->run = plan_run(c->op->kube, &plan, written, j);
    if (!j->run) {
        err_set(&err, ERR_NOMEM, "plan");
        job_free(j);
        finish(c, key, &err, 0, now);
    }
}

static void queue_time(void *user, int64_t ns)
{
    struct ctl *c = user;
    metrics_observe(opm_row(&c->op->metrics, OPM_QUEUE, c->name, NULL, NULL), OPM_QUEUE_TIME,
                    (double)ns / 1e9);
}

static void work_time(void *user, int64_t ns)
{
    struct ctl *c = user;
    metrics_observe(opm_row(&c->op->metrics, OPM_QUEUE, c->name, NULL, NULL), OPM_WORK_TIME,
                    (double)ns / 1e9);
}

int ctl_init(struct ctl *c, struct op *op, const char *name, bool leader_only, struct err *err)
{
    c->op = op;
    c->name = name;
    c->leader_only = leader_only;
    struct kube_queue_opts o = {
        .name = name,
        .concurrency = CTL_CONCURRENCY,
        .work = work,
        .user = c,
        .hooks = {queue_time, work_time, c},
    };
    if (kube_queue_new(op->loop, &o, &c->queue, err) < 0)
        return -1;
    if (leader_only)
        kube_queue_pause(c->queue, true);
    c->next = op->ctls;
    op->ctls = c;
    return 0;
}

void ctl_fini(struct ctl *c)
{
    for (struct ctl **at = c->op ? &c->op->ctls : NULL; at && *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    while (c->jobs) {
        plan_cancel(c->jobs->run);
        job_free(c->jobs);
    }
    if (c->queue)
        kube_queue_free(c->queue);
    c->queue = NULL;
}

void ctl_poke(struct ctl *c, struct slice key)
{
    kube_queue_add(c->queue, key);
}

void ctl_poke_after(struct ctl *c, struct slice key, int64_t delay_ns)
{
    kube_queue_add_after(c->queue, key, delay_ns);
}

void ctl_leader(struct ctl *c, bool leader)
{
    kube_queue_pause(c->queue, !leader);
}

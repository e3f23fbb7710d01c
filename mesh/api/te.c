/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's webhook refuses in a Telemetry, and what deserves a warning. */
#include "mesh/api/te.h"

#include "mesh/api/check.h"
#include "mesh/api/shapes.h"

static enum te_side side_of(const struct rd *d)
{
    static const char *const names[] = {"CLIENT_AND_SERVER", "CLIENT", "SERVER", NULL};
    struct rd match;

    return rd_obj(d, "match", &match) ? (enum te_side)rd_enum(&match, "mode", names, TE_BOTH)
                                      : TE_BOTH;
}

static void provider(const struct rd *d, void *ret)
{
    rd_str(d, "name", ret);
}

static void providers(const struct rd *d, struct api_strings *ret)
{
    ret->p = rd_array(d, "providers", sizeof *ret->p, provider, &ret->n);
}

static void custom_tag(const struct rd *d, struct te_tag *x)
{
    static const struct {
        const char *key, *value;
    } kinds[] = {[TE_TAG_LITERAL] = {"literal", "value"},
                 [TE_TAG_ENVIRONMENT] = {"environment", "name"},
                 [TE_TAG_HEADER] = {"header", "name"},
                 [TE_TAG_FORMATTER] = {"formatter", "value"}};

    for (size_t i = TE_TAG_LITERAL; i < N_OF(kinds); i++) {
        struct rd at;

        if (!rd_obj(d, kinds[i].key, &at))
            continue;
        if (x->kind)
            rd_fail(d, NULL, "has more than one of literal, environment, header and formatter");
        x->kind = (unsigned)i;
        rd_str(&at, kinds[i].value, &x->value);
        rd_str(&at, "defaultValue", &x->fallback);
    }
}

static void tags(const struct rd *d, struct te_tracing *x)
{
    const char *name;
    json_t *v;
    struct rd map;

    if (!rd_obj(d, "customTags", &map) || json_object_size(map.v) == 0)
        return;
    x->tags = rd_alloc(d->c, json_object_size(map.v), sizeof *x->tags);
    if (!x->tags)
        return;
    json_object_foreach((json_t *)map.v, name, v)
    {
        struct rd member = {v, FPATH_KEY(&map.path, name), d->c};

        x->tags[x->n_tags].name = rd_copy(d->c, slice_str(name));
        if (rd_is_obj(&member))
            custom_tag(&member, &x->tags[x->n_tags]);
        x->n_tags++;
    }
}

static void tracing(const struct rd *d, void *ret)
{
    struct te_tracing *x = ret;

    x->side = side_of(d);
    providers(d, &x->providers);
    rd_opt_f64(d, "randomSamplingPercentage", &x->sampling);
    rd_opt_bool(d, "disableSpanReporting", &x->disabled);
    rd_opt_bool(d, "useRequestIdForTraceSampling", &x->use_request_id);
    rd_opt_bool(d, "enableIstioTags", &x->istio_tags);
    rd_opt_bool(d, "disableContextPropagation", &x->no_propagation);
    tags(d, x);
}

static void tag_overrides(const struct rd *d, struct te_override *x)
{
    static const char *const operations[] = {"UPSERT", "REMOVE", NULL};
    const char *name;
    json_t *v;
    struct rd map;

    if (!rd_obj(d, "tagOverrides", &map) || json_object_size(map.v) == 0)
        return;
    x->tags = rd_alloc(d->c, json_object_size(map.v), sizeof *x->tags);
    if (!x->tags)
        return;
    json_object_foreach((json_t *)map.v, name, v)
    {
        struct rd member = {v, FPATH_KEY(&map.path, name), d->c};
        struct te_tag_override *t = &x->tags[x->n_tags++];

        t->name = rd_copy(d->c, slice_str(name));
        if (!rd_is_obj(&member))
            continue;
        t->remove = rd_enum(&member, "operation", operations, 0) == 1;
        rd_str(&member, "value", &t->value);
    }
}

static void metric_override(const struct rd *d, void *ret)
{
    static const char *const names[] = {
        "ALL_METRICS",        "REQUEST_COUNT",          "REQUEST_DURATION",       "REQUEST_SIZE",
        "RESPONSE_SIZE",      "TCP_OPENED_CONNECTIONS", "TCP_CLOSED_CONNECTIONS", "TCP_SENT_BYTES",
        "TCP_RECEIVED_BYTES", "GRPC_REQUEST_MESSAGES",  "GRPC_RESPONSE_MESSAGES", NULL};
    struct te_override *x = ret;
    struct rd match, at;

    x->side = side_of(d);
    if (rd_obj(d, "match", &match)) {
        bool metric = rd_get(&match, "metric", &at);

        if (metric)
            x->metric = slice_str(names[rd_enum(&match, "metric", names, 0)]);
        x->custom = rd_get(&match, "customMetric", &at);
        if (x->custom)
            rd_str(&match, "customMetric", &x->metric);
        if (metric && x->custom)
            rd_fail(&match, NULL, "has both metric and customMetric: keep one");
    }
    rd_opt_bool(d, "disabled", &x->disabled);
    tag_overrides(d, x);
}

static void metrics(const struct rd *d, void *ret)
{
    struct te_metrics *x = ret;

    providers(d, &x->providers);
    x->overrides = rd_array(d, "overrides", sizeof *x->overrides, metric_override, &x->n_overrides);
    rd_opt_ns(d, "reportingInterval", &x->interval);
}

static void logging(const struct rd *d, void *ret)
{
    struct te_logging *x = ret;
    struct rd at;

    x->side = side_of(d);
    providers(d, &x->providers);
    rd_opt_bool(d, "disabled", &x->disabled);
    if (rd_obj(d, "filter", &at)) {
        x->filter = (struct slice){"", 0};
        rd_str(&at, "expression", &x->filter);
    }
}

int te_decode(const json_t *obj, struct arena *a, struct te **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec;
    struct te *te = rd_alloc(&c, 1, sizeof *te);

    if (!te || rd_begin(&c, obj, false, &te->meta, &root, &spec) < 0)
        return -1;
    rd_selector(&spec, "selector", "matchLabels", &te->selector);
    rd_target_refs(&spec, &te->target_refs);
    te->tracing = rd_array(&spec, "tracing", sizeof *te->tracing, tracing, &te->n_tracing);
    te->metrics = rd_array(&spec, "metrics", sizeof *te->metrics, metrics, &te->n_metrics);
    te->logging = rd_array(&spec, "accessLogging", sizeof *te->logging, logging, &te->n_logging);
    if (c.nomem)
        return -1;
    *ret = te;
    return 0;
}

/* --- rules
 * -------------------------------------------------------------------------------------------- */

static void check_providers(const struct api_strings *p, bool many, const struct fpath *up,
                            struct findings *f)
{
    AT_KEY(list, *up, "providers");

    for (uint32_t i = 0; i < p->n; i++) {
        AT_INDEX(at, list, i);
        AT_KEY(name, at, "name");

        if (p->p[i].len == 0)
            findings_add(f, FINDING_INVALID, &name, "must name a provider");
    }
    if (p->n > 1 && !many)
        findings_add(f, FINDING_SUSPECT, &list, "spans go to the first provider alone");
}

static void check_tracing(const struct te_tracing *t, const struct fpath *at, struct findings *f)
{
    AT_KEY(sampling, *at, "randomSamplingPercentage");
    AT_KEY(map, *at, "customTags");

    check_providers(&t->providers, false, at, f);
    if (t->sampling.set)
        check_share(t->sampling.v, &sampling, f);
    for (uint32_t i = 0; i < t->n_tags; i++) {
        AT_KEY(tag, map, t->tags[i].name.p);

        if (t->tags[i].name.len == 0)
            findings_add(f, FINDING_INVALID, &map, "a tag must have a name");
        if (t->tags[i].kind == TE_TAG_NONE)
            findings_add(f, FINDING_INVALID, &tag,
                         "must hold literal, environment, header or formatter");
        else if (t->tags[i].value.len == 0)
            findings_add(f, FINDING_INVALID, &tag, "must say what its value is");
    }
}

static void check_metrics(const struct te_metrics *m, const struct fpath *at, struct findings *f)
{
    AT_KEY(list, *at, "overrides");
    AT_KEY(interval, *at, "reportingInterval");

    check_providers(&m->providers, true, at, f);
    check_duration(m->interval, &interval, f);
    for (uint32_t i = 0; i < m->n_overrides; i++) {
        const struct te_override *o = &m->overrides[i];
        AT_INDEX(item, list, i);
        AT_KEY(match, item, "match");
        AT_KEY(custom, match, "customMetric");
        AT_KEY(map, item, "tagOverrides");

        if (o->custom && o->metric.len == 0)
            findings_add(f, FINDING_INVALID, &custom, "must name a metric");
        for (uint32_t j = 0; j < o->n_tags; j++) {
            AT_KEY(tag, map, o->tags[j].name.p);

            if (o->tags[j].name.len == 0)
                findings_add(f, FINDING_INVALID, &map, "a label must have a name");
            if (!o->tags[j].remove && o->tags[j].value.len == 0)
                findings_add(f, FINDING_INVALID, &tag, "must give a value, or operation REMOVE");
            if (o->tags[j].remove && o->tags[j].value.len)
                findings_add(f, FINDING_INVALID, &tag, "operation REMOVE takes no value");
        }
    }
}

static void check_logging(const struct te_logging *l, const struct fpath *at, struct findings *f)
{
    AT_KEY(filter, *at, "filter");
    AT_KEY(expression, filter, "expression");

    check_providers(&l->providers, true, at, f);
    if (l->filter.p && l->filter.len == 0)
        findings_add(f, FINDING_SUSPECT, &expression, "is empty: leave the filter out");
}

void te_validate(const struct te *te, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(trace, spec, "tracing");
    AT_KEY(metric, spec, "metrics");
    AT_KEY(log, spec, "accessLogging");

    shape_check_target(&te->selector, &te->target_refs, f);
    if (te->n_tracing > 1)
        findings_add(f, FINDING_SUSPECT, &trace, "only the first entry counts");
    for (uint32_t i = 0; i < te->n_tracing; i++) {
        AT_INDEX(at, trace, i);
        check_tracing(&te->tracing[i], &at, f);
    }
    for (uint32_t i = 0; i < te->n_metrics; i++) {
        AT_INDEX(at, metric, i);
        check_metrics(&te->metrics[i], &at, f);
    }
    for (uint32_t i = 0; i < te->n_logging; i++) {
        AT_INDEX(at, log, i);
        check_logging(&te->logging[i], &at, f);
    }
}

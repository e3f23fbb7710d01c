/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/pc.h"

#include "mesh/api/check.h"
#include "mesh/api/read.h"

int pc_decode(const json_t *obj, struct arena *a, struct pc **ret, struct findings *f)
{
    struct rd_ctx c = {.a = a, .f = f};
    struct rd root, spec, at;
    int64_t n;
    struct pc *pc = rd_alloc(&c, 1, sizeof *pc);

    if (!pc || rd_begin(&c, obj, false, &pc->meta, &root, &spec) < 0)
        return -1;
    rd_selector(&spec, "selector", "matchLabels", &pc->selector);
    if (rd_obj(&spec, "targetRef", &at)) {
        rd_str(&at, "group", &pc->target_ref.group);
        rd_str(&at, "kind", &pc->target_ref.kind);
        rd_str(&at, "name", &pc->target_ref.name);
        rd_str(&at, "namespace", &pc->target_ref.ns);
    }
    if (rd_i64(&spec, "concurrency", 0, INT32_MAX, &n))
        pc->concurrency = (struct opt_u32){true, (uint32_t)n};
    rd_map(&spec, "environmentVariables", &pc->environment);
    if (rd_obj(&spec, "image", &at))
        rd_str(&at, "imageType", &pc->image_type);
    if (c.nomem)
        return -1;
    *ret = pc;
    return 0;
}

/* Names of environment variables as Kubernetes takes them: not empty, no '=', no control bytes. */
static bool env_name(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.p[i] == '=' || (unsigned char)s.p[i] <= ' ')
            return false;
    return s.len > 0;
}

void pc_validate(const struct pc *pc, struct findings *f)
{
    AT_KEY(spec, FPATH_ROOT, "spec");
    AT_KEY(selector, spec, "selector");
    AT_KEY(env, spec, "environmentVariables");

    check_selector(&pc->selector, &selector, f);
    for (uint32_t i = 0; i < pc->environment.n; i++) {
        AT_KEY(at, env, pc->environment.p[i].key.p);

        if (!env_name(pc->environment.p[i].key))
            findings_add(f, FINDING_INVALID, &at, "\"%.*s\" is no name of a variable",
                         SHOW(pc->environment.p[i].key));
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle check`: whether a mesh can be installed, and whether the one that is there is well. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cluster.h"
#include "cli/judge.h"
#include "cli/report.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/data/json.h"

static int run(int argc, char **argv);

const struct command cmd_check = {
    .name = "check",
    .summary = "say whether the mesh is well, or can be installed",
    .usage = "usage: tulle check [--pre] [-o text|json] [--kubeconfig FILE] [--context NAME]\n"
             "  --pre  before an installation: the cluster, your rights, who else is there\n"
             "  -o     form of the answer (default: text)\n"
             "Nothing is changed. Exits 1 when a check failed; warnings do not count.\n",
    .run = run,
};

int report_out(const struct report *r, bool json)
{
    CLEANUP(buf_freep) struct buf out;
    buf_init(&out, 16u << 20);
    if (json) {
        CLEANUP(json_freep) json_t *v = report_json(r);
        if (v)
            json_write(v, JSON_PRETTY, &out);
    } else {
        report_text(r, &out);
    }
    if (buf_err(&out) != ERR_OK || buf_len(&out) == 0)
        return EXIT_FAILURE;
    fwrite(buf_slice(&out).p, 1, buf_len(&out), stdout);
    return report_success(r) ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(int argc, char **argv)
{
    static const struct option table[] = {{"pre", no_argument, NULL, 'p'},
                                          {"kubeconfig", required_argument, NULL, 'k'},
                                          {"context", required_argument, NULL, 'c'},
                                          {0}};
    const char *kubeconfig = NULL, *context = NULL;
    bool pre = false, json = false;
    int c, rc;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "o:", table, NULL)) != -1) {
        if (c == 'p')
            pre = true;
        else if (c == 'k')
            kubeconfig = optarg;
        else if (c == 'c')
            context = optarg;
        else if (c == 'o' && (strcmp(optarg, "json") == 0 || strcmp(optarg, "text") == 0))
            json = *optarg == 'j';
        else
            return usage_error(&cmd_check, "unknown or incomplete option %s", argv[optind - 1]);
    }
    if (optind < argc)
        return usage_error(&cmd_check, "it takes no argument %s", argv[optind]);
    struct cluster k;
    struct err err = {0};
    if (cluster_open(&k, kubeconfig, context, &err) < 0) {
        fprintf(stderr, "tulle check: %s\n", err.msg);
        cluster_close(&k);
        return EXIT_FAILURE;
    }
    CLEANUP(json_freep) json_t *facts = cluster_facts(&k, pre ? FACTS_PRE : FACTS_MESH);
    struct report r = {0};
    if (!facts)
        r.nomem = true;
    else if (pre)
        judge_pre(facts, &r);
    else
        judge_mesh(facts, &r);
    rc = report_out(&r, json);
    report_fini(&r);
    cluster_close(&k);
    return rc;
}

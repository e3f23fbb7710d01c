/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/slice.h"
#include "operator/names.h"

static void usage(FILE *out)
{
    fputs("usage: tulle-operator [flags]           serve the mesh of a cluster\n"
          "       tulle-operator cleanup [flags]   remove what the operator made, before uninstall\n"
          "  --kubeconfig FILE       API server (in-cluster, or $KUBECONFIG)\n"
          "  --namespace NAME        of the control plane ($POD_NAMESPACE, tulle-system)\n"
          "  --config-dir DIR        read objects from YAML files in DIR, not from an API server\n"
          "  --ca-dir DIR            with --config-dir: the CA's files, made when absent (DIR/.ca)\n"
          "  --ca-ephemeral          with --config-dir: a CA in memory\n"
          "  --tokens FILE           with --config-dir: 'token namespace account' lines (DIR/.tokens)\n"
          "  --trust-domain NAME     with --config-dir: of a new CA (cluster.local)\n"
          "  --address ADDR          listen on this address alone\n"
          "  --port N                discovery and CA (15012)\n"
          "  --monitoring-port N     metrics and health (15014)\n"
          "  --log-level LEVEL       error, warn, info, debug ($TULLE_LOG_LEVEL, info)\n"
          "  --log-json              one JSON object per line\n"
          "  --version, --help\n",
          out);
}

static const char *env_or(const char *name, const char *otherwise)
{
    const char *v = getenv(name);
    return v && *v ? v : otherwise;
}

static int number(const char *flag, const char *text, uint16_t *ret)
{
    uint64_t n;
    if (!slice_u64(slice_str(text), 65535, &n)) {
        fprintf(stderr, "tulle-operator: --%s: '%s' is no port\n", flag, text);
        return -1;
    }
    *ret = (uint16_t)n;
    return 0;
}

static void defaults(struct options *o)
{
    *o = (struct options){
        .address = "",
        .trust_domain = "cluster.local",
        .ns = env_or("POD_NAMESPACE", NAME_NAMESPACE),
        .pod = env_or("POD_NAME", "tulle-operator-0"),
        .revision = env_or("TULLE_REVISION", NAME_REVISION),
        .cluster_id = env_or("TULLE_CLUSTER_ID", "Kubernetes"),
        .proxy_image = env_or("TULLE_PROXY_IMAGE", "tulle-proxy:" TULLE_VERSION),
        .pull_policy = env_or("TULLE_IMAGE_PULL_POLICY", "IfNotPresent"),
        .port = PORT_DISCOVERY,
        .monitoring_port = PORT_MONITORING,
        .level = LOG_INFO,
    };
    log_level_parse(env_or("TULLE_LOG_LEVEL", "info"), &o->level);
}

int options_read(int argc, char **argv, struct options *o)
{
    static const struct option flags[] = {
        {"kubeconfig", required_argument, NULL, 'K'},
        {"namespace", required_argument, NULL, 'n'},
        {"config-dir", required_argument, NULL, 'd'},
        {"ca-dir", required_argument, NULL, 'c'},
        {"ca-ephemeral", no_argument, NULL, 'e'},
        {"tokens", required_argument, NULL, 't'},
        {"trust-domain", required_argument, NULL, 'T'},
        {"address", required_argument, NULL, 'a'},
        {"port", required_argument, NULL, 'p'},
        {"monitoring-port", required_argument, NULL, 'm'},
        {"log-level", required_argument, NULL, 'l'},
        {"log-json", no_argument, NULL, 'j'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int c;

    defaults(o);
    while ((c = getopt_long(argc, argv, "", flags, NULL)) >= 0) {
        switch (c) {
        case 'K': o->kubeconfig = optarg; break;
        case 'n': o->ns = optarg; break;
        case 'd': o->config_dir = optarg; break;
        case 'c': o->ca_dir = optarg; break;
        case 'e': o->ephemeral_ca = true; break;
        case 't': o->tokens = optarg; break;
        case 'T': o->trust_domain = optarg; break;
        case 'a': o->address = optarg; break;
        case 'j': o->json = true; break;
        case 'p':
            if (number("port", optarg, &o->port) < 0)
                return -1;
            break;
        case 'm':
            if (number("monitoring-port", optarg, &o->monitoring_port) < 0)
                return -1;
            break;
        case 'l':
            if (log_level_parse(optarg, &o->level) < 0) {
                fprintf(stderr, "tulle-operator: --log-level: '%s' is no level\n", optarg);
                return -1;
            }
            break;
        case 'V': printf("tulle-operator %s\n", TULLE_VERSION); return 1;
        case 'h': usage(stdout); return 1;
        default: usage(stderr); return -1;
        }
    }
    o->cleanup = optind < argc && strcmp(argv[optind], "cleanup") == 0;
    if (optind + o->cleanup < argc) {
        usage(stderr);
        return -1;
    }
    if (o->config_dir && !o->ca_dir && !o->ephemeral_ca) {
        snprintf(o->ca_default, sizeof o->ca_default, "%s/.ca", o->config_dir);
        o->ca_dir = o->ca_default;
    }
    if (o->config_dir && !o->tokens) {
        snprintf(o->tokens_default, sizeof o->tokens_default, "%s/.tokens", o->config_dir);
        o->tokens = o->tokens_default;
    }
    return 0;
}

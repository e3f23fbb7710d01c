/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/cleanup.h"

const char proxy_options_help[] =
    "usage: tulle-proxy run [options]\n"
    "  --config FILE          read the program from a compiled file (tulle compile), no operator\n"
    "  --cert FILE --key FILE --roots FILE\n"
    "                         identity as PEM files (with --config)\n"
    "  --gateway ADDR         be a gateway: open what Gateways ask for, at this address ('*': all)\n"
    "  --namespace NAME       where short host names resolve\n"
    "  --concurrency N        worker threads (default 1)\n"
    "  --outbound ADDR=DEST   listen at ADDR for connections that mean DEST (repeatable)\n"
    "  --inbound ADDR=DEST    the same for the inbound side; without any of these two the pod's\n"
    "                         ports 15001 and 15006 behind its redirect rules are used\n"
    "  --admin ADDR, --status ADDR, --health ADDR, --metrics ADDR\n"
    "                         with the above, where to serve these\n"
    "  --log-level LEVEL      error, warn, info, debug, trace\n"
    "  --log-as-json\n"
    "  --virtual-clock        time moves by POST /clock?advance_ms=N on the admin port, the civil clock\n"
    "                         alone by /clock?set_s=N or -N (tests)\n"
    "  --seed N               seed of the random numbers (tests)\n";

enum { OPT_CONFIG = 256, OPT_CERT, OPT_KEY, OPT_ROOTS, OPT_NAMESPACE, OPT_CONCURRENCY, OPT_VIRTUAL,
       OPT_SEED, OPT_GATEWAY, OPT_LOG_LEVEL, OPT_LOG_JSON, OPT_LISTEN };

static const char *const listen_names[] = {"outbound", "inbound", "admin",
                                           "status",   "health",  "metrics"};

static int parse_listen(struct proxy_options *o, const char *name, const char *text, struct err *err)
{
    if (o->n_listen == PROXY_LISTEN_MAX)
        return err_set(err, ERR_LIMIT, "--%s: at most %d listeners", name, PROXY_LISTEN_MAX);
    struct proxy_listen *l = &o->listen[o->n_listen];
    struct slice s = slice_str(text);
    ptrdiff_t eq = slice_chr(s, '=');
    *l = (struct proxy_listen){.name = name};
    l->per_worker = strcmp(name, "outbound") == 0 || strcmp(name, "inbound") == 0;
    if (l->per_worker != (eq >= 0))
        return err_set(err, ERR_INVALID, "--%s %s: must be %s", name, text,
                       l->per_worker ? "ADDRESS:PORT=ADDRESS:PORT" : "ADDRESS:PORT");
    if (sock_addr_parse_hostport(eq >= 0 ? slice_head(s, (size_t)eq) : s, &l->at) < 0 ||
        (eq >= 0 && sock_addr_parse_hostport(slice_skip(s, (size_t)eq + 1), &l->fixed) < 0))
        return err_set(err, ERR_INVALID, "--%s %s: not an address and port", name, text);
    o->n_listen++;
    return 0;
}

static int parse_number(const char *name, const char *text, uint64_t min, uint64_t max,
                        uint64_t *ret, struct err *err)
{
    if (!slice_u64(slice_str(text), max, ret) || *ret < min)
        return err_set(err, ERR_INVALID, "--%s %s: must be %llu..%llu", name, text,
                       (unsigned long long)min, (unsigned long long)max);
    return 0;
}

int proxy_options_parse(int argc, char **argv, struct proxy_options *ret, struct err *err)
{
    static const struct option table[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"cert", required_argument, NULL, OPT_CERT},
        {"key", required_argument, NULL, OPT_KEY},
        {"roots", required_argument, NULL, OPT_ROOTS},
        {"gateway", required_argument, NULL, OPT_GATEWAY},
        {"namespace", required_argument, NULL, OPT_NAMESPACE},
        {"concurrency", required_argument, NULL, OPT_CONCURRENCY},
        {"virtual-clock", no_argument, NULL, OPT_VIRTUAL},
        {"seed", required_argument, NULL, OPT_SEED},
        {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
        {"log-as-json", no_argument, NULL, OPT_LOG_JSON},
        {"outbound", required_argument, NULL, OPT_LISTEN + 0},
        {"inbound", required_argument, NULL, OPT_LISTEN + 1},
        {"admin", required_argument, NULL, OPT_LISTEN + 2},
        {"status", required_argument, NULL, OPT_LISTEN + 3},
        {"health", required_argument, NULL, OPT_LISTEN + 4},
        {"metrics", required_argument, NULL, OPT_LISTEN + 5},
        {0},
    };
    struct proxy_options o = {.concurrency = 1};
    uint64_t n;
    int c;
    optind = 0; /* glibc: start anew */
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+", table, NULL)) != -1) {
        switch (c) {
        case OPT_CONFIG: o.config = optarg; break;
        case OPT_CERT: o.cert = optarg; break;
        case OPT_KEY: o.key = optarg; break;
        case OPT_ROOTS: o.roots = optarg; break;
        case OPT_NAMESPACE: o.namespace_ = optarg; break;
        case OPT_GATEWAY: o.gateway = optarg; break;
        case OPT_VIRTUAL: o.virtual_clock = true; break;
        case OPT_LOG_LEVEL: o.log_level = optarg; break;
        case OPT_LOG_JSON: o.log_json = true; break;
        case OPT_CONCURRENCY:
            if (parse_number("concurrency", optarg, 1, CONCURRENCY_MAX, &n, err) < 0)
                return -1;
            o.concurrency = (unsigned)n;
            break;
        case OPT_SEED:
            if (parse_number("seed", optarg, 1, UINT64_MAX, &o.seed, err) < 0)
                return -1;
            break;
        default:
            if (c < OPT_LISTEN || c >= OPT_LISTEN + (int)N_OF(listen_names))
                return err_set(err, ERR_INVALID, "unknown or incomplete option %s",
                               argv[optind - 1]);
            if (parse_listen(&o, listen_names[c - OPT_LISTEN], optarg, err) < 0)
                return -1;
        }
    }
    if (optind < argc)
        return err_set(err, ERR_INVALID, "unexpected argument %s", argv[optind]);
    if ((o.cert || o.key || o.roots) && !(o.cert && o.key && o.roots && o.config))
        return err_set(err, ERR_INVALID, "--cert, --key and --roots go together and with --config");
    struct sock_addr at;
    if (o.gateway && strcmp(o.gateway, "*") != 0 &&
        sock_addr_parse(slice_str(o.gateway), 0, &at) < 0)
        return err_set(err, ERR_INVALID, "--gateway %s: must be an address, or * for all",
                       o.gateway);
    *ret = o;
    return 0;
}

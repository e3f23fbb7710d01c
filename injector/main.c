/* SPDX-License-Identifier: Apache-2.0 */
/* tulle-injector: the mesh's admission webhooks. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "injector/server.h"
#include "injector/source.h"
#include "lib/base/log.h"
#include "lib/data/json.h"
#include "lib/io/loop.h"

/* On SIGTERM: not ready at once; still serving for a moment, until the Service has forgotten us;
 * then no new connections; then out when the last answer is written, or time is up. */
enum { LINGER_MS = 3000, DRAIN_MS = 10000, DRAIN_STEP_MS = 20 };

struct options {
    uint16_t port;
    const char *cert, *key, *settings, *kubeconfig, *ns;
    int64_t linger_ms;
    enum log_level level;
    bool json;
};

struct injector {
    struct loop *loop;
    struct state state;
    struct server *server;
    struct source *source;
    struct loop_signal signals;
    bool has_signals;
    struct loop_timer timer;
    int64_t linger_ms, give_up_ns;
};

static void usage(FILE *out)
{
    fputs("usage: tulle-injector [flags]\n"
          "  --port N             HTTPS port (15017; 0: any, printed in the log)\n"
          "  --cert FILE          certificate chain, PEM; with --key: no API server is asked\n"
          "  --key FILE           its key, PEM\n"
          "  --settings FILE      settings, JSON, in place of ConfigMap tulle-injector\n"
          "  --kubeconfig FILE    API server to ask (in-cluster, or $KUBECONFIG)\n"
          "  --namespace NAME     of Secret and ConfigMap ($POD_NAMESPACE, tulle-system)\n"
          "  --linger-ms N        serve on for so long after SIGTERM (3000)\n"
          "  --log-level LEVEL    error, warn, info, debug ($TULLE_LOG_LEVEL, info)\n"
          "  --log-json           one JSON object per line\n"
          "  --version, --help\n",
          out);
}

static int number(const char *flag, const char *text, uint64_t max, uint64_t *ret)
{
    if (slice_u64(slice_str(text), max, ret))
        return 0;
    fprintf(stderr, "tulle-injector: --%s: '%s' is no number up to %llu\n", flag, text,
            (unsigned long long)max);
    return -1;
}

/* 0: go on; 1: done, well; -1: wrong usage. */
static int options_read(int argc, char **argv, struct options *o)
{
    static const struct option flags[] = {
        {"port", required_argument, NULL, 'p'},
        {"cert", required_argument, NULL, 'c'},
        {"key", required_argument, NULL, 'k'},
        {"settings", required_argument, NULL, 's'},
        {"kubeconfig", required_argument, NULL, 'K'},
        {"namespace", required_argument, NULL, 'n'},
        {"linger-ms", required_argument, NULL, 'w'},
        {"log-level", required_argument, NULL, 'l'},
        {"log-json", no_argument, NULL, 'j'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    uint64_t n;
    int c;

    while ((c = getopt_long(argc, argv, "", flags, NULL)) >= 0) {
        switch (c) {
        case 'p':
            if (number("port", optarg, UINT16_MAX, &n) < 0)
                return -1;
            o->port = (uint16_t)n;
            break;
        case 'c':
            o->cert = optarg;
            break;
        case 'k':
            o->key = optarg;
            break;
        case 's':
            o->settings = optarg;
            break;
        case 'K':
            o->kubeconfig = optarg;
            break;
        case 'n':
            o->ns = optarg;
            break;
        case 'w':
            if (number("linger-ms", optarg, 600000, &n) < 0)
                return -1;
            o->linger_ms = (int64_t)n;
            break;
        case 'l':
            if (log_level_parse(optarg, &o->level) < 0) {
                fprintf(stderr, "tulle-injector: --log-level: no such level '%s'\n", optarg);
                return -1;
            }
            break;
        case 'j':
            o->json = true;
            break;
        case 'V':
            puts("tulle-injector " TULLE_VERSION);
            return 1;
        case 'h':
            usage(stdout);
            return 1;
        default:
            usage(stderr);
            return -1;
        }
    }
    if (optind < argc || !o->cert != !o->key || (o->settings && !o->cert)) {
        usage(stderr);
        return -1;
    }
    return 0;
}

static void on_drain(struct loop_timer *t)
{
    struct injector *in = CONTAINER_OF(t, struct injector, timer);
    int left = server_in_flight(in->server);
    if (left == 0 || loop_now(in->loop) >= in->give_up_ns) {
        LOG(INFO, "Injector stopped", "unanswered=%d", left);
        loop_stop(in->loop);
        return;
    }
    loop_timer_in(in->loop, t, DRAIN_STEP_MS * NS_PER_MS, on_drain);
}

static void on_quiesce(struct loop_timer *t)
{
    struct injector *in = CONTAINER_OF(t, struct injector, timer);
    server_quiesce(in->server);
    in->give_up_ns = loop_now(in->loop) + DRAIN_MS * NS_PER_MS;
    on_drain(t);
}

static void on_signal(struct loop_signal *sig, int signo)
{
    struct injector *in = CONTAINER_OF(sig, struct injector, signals);
    if (atomic_exchange(&in->state.leaving, true)) {
        loop_stop(in->loop); /* asked twice: at once */
        return;
    }
    LOG(INFO, "Injector is shutting down", "signal=%d linger_ms=%lld", signo,
        (long long)in->linger_ms);
    loop_timer_in(in->loop, &in->timer, in->linger_ms * NS_PER_MS, on_quiesce);
}

static int injector_open(struct injector *in, const struct options *o, struct err *err)
{
    static const int signos[] = {SIGTERM, SIGINT};
    /* The signals are blocked here, before the server's threads are there to inherit that. */
    if (loop_signal_init(in->loop, &in->signals, signos, N_OF(signos), on_signal, err) < 0)
        return -1;
    in->has_signals = true;
    if (o->cert ? source_files(in->loop, &in->state, o->cert, o->key, o->settings, &in->source, err)
                : source_kube(in->loop, &in->state, o->kubeconfig, o->ns, &in->source, err))
        return -1;
    if (server_start(&in->state, o->port, &in->server, err) < 0)
        return -1;
    LOG(INFO, "Injector is serving", "port=%u version=%s source=%s", server_port(in->server),
        TULLE_VERSION, o->cert ? "files" : "kubernetes");
    return loop_run(in->loop, err);
}

int main(int argc, char **argv)
{
    struct options o = {.port = 15017, .level = LOG_INFO, .linger_ms = LINGER_MS};
    struct injector in = {0};
    struct clock clock;
    struct err err = {0};

    o.ns = getenv("POD_NAMESPACE");
    if (!o.ns || !o.ns[0])
        o.ns = "tulle-system";
    const char *level = getenv("TULLE_LOG_LEVEL");
    if (level && level[0] && log_level_parse(level, &o.level) < 0)
        fprintf(stderr, "tulle-injector: TULLE_LOG_LEVEL: no such level '%s'; info it is\n", level);
    int rc = options_read(argc, argv, &o);
    if (rc != 0)
        return rc > 0 ? EXIT_SUCCESS : 2;
    json_setup();
    log_init("tulle-injector", o.json);
    log_threshold = o.level;
    signal(SIGPIPE, SIG_IGN);
    clock_init_real(&clock);
    in.linger_ms = o.linger_ms;
    rc = -1;
    if (loop_new(&clock, &in.loop, &err) == 0 &&
        state_init(&in.state, clock_wall(&clock) / NS_PER_S, &err) == 0)
        rc = injector_open(&in, &o, &err);
    if (rc < 0)
        LOG(ERROR, "Injector failed", "error=%s", err.msg);
    server_stop(in.server);
    if (in.loop) {
        source_free(in.source);
        if (in.has_signals)
            loop_signal_fini(&in.signals);
        state_fini(&in.state);
    }
    loop_free(in.loop);
    return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

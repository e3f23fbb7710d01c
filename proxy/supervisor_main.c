/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle-proxy`: the static executable. `run` supervises, hooks ask the running proxy, and what needs
 * libraries (`init`) is done by tulle-proxy-data. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "proxy/handover.h"
#include "proxy/hook.h"
#include "proxy/options.h"
#include "proxy/supervisor.h"

static int usage(FILE *to)
{
    fprintf(to,
            "usage: tulle-proxy COMMAND [options]\n"
            "  run      carry traffic (see run --help)\n"
            "  init     program the pod's redirect rules, then exit\n"
            "  drain    let inbound requests end (preStop hook)\n"
            "  wait     until the proxy is ready (postStart hook)\n"
            "  ready    0 when the proxy is ready (probe)\n"
            "  version\n");
    return to == stdout ? EXIT_SUCCESS : EXIT_BAD_CONFIG;
}

static int exec_data(char **argv)
{
    const char *path = supervisor_data_path();
    execv(path, argv);
    fprintf(stderr, "tulle-proxy: cannot execute %s: %s\n", path, strerror(errno));
    return EXIT_BAD_CONFIG;
}

int main(int argc, char **argv)
{
    log_init("tulle-proxy", false);
    if (argc < 2)
        return usage(stderr);
    const char *verb = argv[1];
    if (strcmp(verb, "run") == 0) {
        if (argc == 3 && strcmp(argv[2], "--help") == 0) {
            fputs(proxy_options_help, stdout);
            return EXIT_SUCCESS;
        }
        return supervisor_run(argc - 1, argv + 1);
    }
    if (strcmp(verb, "init") == 0)
        return exec_data(argv);
    if (strcmp(verb, "ready") == 0)
        return hook_ready();
    if (strcmp(verb, "wait") == 0)
        return hook_wait(argc - 1, argv + 1);
    if (strcmp(verb, "drain") == 0)
        return hook_drain(argc - 1, argv + 1);
    if (strcmp(verb, "version") == 0 || strcmp(verb, "--version") == 0) {
        puts("tulle-proxy " TULLE_VERSION);
        return EXIT_SUCCESS;
    }
    return usage(strcmp(verb, "help") == 0 || strcmp(verb, "--help") == 0 ? stdout : stderr);
}

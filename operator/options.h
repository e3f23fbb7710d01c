/* SPDX-License-Identifier: Apache-2.0 */
/* Command line and environment of the operator. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/log.h"

struct options {
    bool cleanup;             /* the verb */
    const char *config_dir;   /* NULL: an API server */
    const char *ca_dir;       /* of --config-dir; default DIR/.ca */
    const char *tokens;       /* of --config-dir; default DIR/.tokens */
    const char *kubeconfig;
    const char *address;      /* "" = all */
    const char *trust_domain; /* of a new CA in --config-dir */
    const char *ns, *pod, *revision, *cluster_id, *proxy_image, *pull_policy;
    uint16_t port, monitoring_port;
    bool ephemeral_ca;
    enum log_level level;
    bool json;
    char ca_default[1024], tokens_default[1024];
};
/* 0: go on; 1: done, well; -1: wrong usage (said on stderr). */
int options_read(int argc, char **argv, struct options *ret);

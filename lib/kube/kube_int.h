/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of lib/kube share. */
#pragma once

#include <jansson.h>

#include "lib/base/err.h"
#include "lib/base/slice.h"

/* Parse JSON from the API server. NULL with ERR_PROTO, or ERR_NOMEM. */
json_t *kube_json(struct slice text, struct err *err);

/* A whole file as NUL-terminated heap string (mem_free). ERR_NOT_FOUND, ERR_LIMIT, ERR_IO. */
char *kube_read_file(const char *path, size_t max, size_t *ret_len, struct err *err);

/* Wipe a secret and free it. */
void kube_wipe_free(char *s);

/* metav1.MicroTime: RFC 3339 in UTC with six digits, as Leases and Events have it. */
enum { KUBE_MICRO_TIME = 48 };
void kube_micro_time(int64_t wall_ns, char ret[KUBE_MICRO_TIME]);

/* No object of the API server is longer (etcd's default limit is 1.5 MB; JSON adds to it). */
enum { KUBE_OBJECT_MAX = 16 << 20 };

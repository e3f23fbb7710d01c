/* SPDX-License-Identifier: Apache-2.0 */
/* Internal to mesh/api: rules that several kinds share. Each adds findings and answers whether all
 * is well. */
#pragma once

#include "lib/base/cleanup.h"

#include "mesh/api/common.h"

#define AT_KEY(var, up, key) struct fpath var = FPATH_KEY(&(up), key)
#define AT_INDEX(var, up, i) struct fpath var = FPATH_INDEX(&(up), i)
#define SHOW(s) (int)MIN((s).len, 64u), (s).p ? (s).p : ""

/* A host name; with `wild` also "*" and "*.suffix". Addresses are no names. */
bool check_host(struct slice host, bool wild, const struct fpath *at, struct findings *f);
/* 1..65535. */
bool check_port(uint32_t port, const struct fpath *at, struct findings *f);
/* An address or a range of addresses. */
bool check_cidr(struct slice text, const struct fpath *at, struct findings *f);
void check_cidrs(const struct api_strings *s, const struct fpath *at, struct findings *f);
/* RE2 syntax; a machine without RE2 leaves it to those that have it. */
bool check_regex(struct slice pattern, const struct fpath *at, struct findings *f);
void check_match(const struct api_match *m, const struct fpath *at, struct findings *f);
/* RFC 9110 5.1. */
bool check_header_name(struct slice name, const struct fpath *at, struct findings *f);
/* Unset, or at least one millisecond. */
void check_duration(struct opt_ns d, const struct fpath *at, struct findings *f);
void check_share(double percent, const struct fpath *at, struct findings *f);
/* ".", "*", "~" or namespaces; "*" and "~" alone. */
void check_export_to(const struct api_strings *s, struct findings *f);
/* Label keys and values as Kubernetes has them. */
void check_labels(const struct api_map *m, const struct fpath *at, struct findings *f);
void check_selector(const struct api_selector *s, const struct fpath *at, struct findings *f);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of `tulle` share: the table of commands, and objects from files. */
#pragma once

#include <jansson.h>

#include "lib/base/arena.h"
#include "lib/base/err.h"
#include "lib/data/yaml.h"
#include "mesh/index/index.h"

/* One verb: its name, what it is for, its usage lines, and the function. */
struct command {
    const char *name, *summary, *usage;
    int (*run)(int argc, char **argv); /* argv[0] is the verb; the exit code */
};
extern const struct command cmd_analyze, cmd_ca, cmd_check, cmd_compile, cmd_install, cmd_uninstall,
    cmd_upgrade;

enum { EXIT_USAGE = 2 };
struct report;
/* Print a report; the exit code: failure when a check failed. */
int report_out(const struct report *r, bool json);
/* "tulle VERB: text" and the usage, to stderr; returns EXIT_USAGE. */
int usage_error(const struct command *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* --- objects from files
 * --------------------------------------------------------------------------- */
struct file_object {
    json_t *obj;      /* owned by the set */
    const char *file; /* in the arena */
    size_t line;
};
struct file_objects {
    struct file_object *p;
    size_t n, cap;
    struct arena arena;
};
/* Read a file, every *.yaml, *.yml and *.json below a folder, or "-" for standard input. Lists
 * (kind: List) are taken apart. Objects without a namespace get `namespace_` when their kind has
 * one. Errors name file and line. */
int file_objects_read(struct file_objects *set, const char *path, const char *namespace_,
                      struct err *err);
void file_objects_fini(struct file_objects *set);
/* Put all of them into an index; objects of kinds that it does not hold are left out. */
int file_objects_index(const struct file_objects *set, struct index *x, struct err *err);
/* A whole file into memory. "-" is standard input. */
int file_read(const char *path, struct buf *ret, struct err *err);

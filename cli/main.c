/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle`: the command line. One table of commands; help is printed from it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "lib/base/cleanup.h"
#include "lib/data/json.h"

static const struct command *const commands[] = {&cmd_install, &cmd_upgrade, &cmd_uninstall,
                                                 &cmd_check,   &cmd_ca,      &cmd_analyze, &cmd_compile};

static int help(FILE *to)
{
    fprintf(to, "tulle " TULLE_VERSION ": the command line of the Tulle service mesh\n\n"
                "usage: tulle COMMAND [options]\n\n");
    for (size_t i = 0; i < N_OF(commands); i++)
        fprintf(to, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(to, "  %-12s %s\n\nRun `tulle COMMAND --help` for its options.\n", "version",
            "print the version");
    return to == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

int usage_error(const struct command *c, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "tulle %s: ", c->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n\n%s", c->usage);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    json_setup();
    if (argc < 2)
        return help(stderr);
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0)
        return help(stdout);
    if (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0) {
        puts("tulle " TULLE_VERSION);
        return EXIT_SUCCESS;
    }
    for (size_t i = 0; i < N_OF(commands); i++) {
        if (strcmp(argv[1], commands[i]->name) != 0)
            continue;
        if (argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
            fputs(commands[i]->usage, stdout);
            return EXIT_SUCCESS;
        }
        return commands[i]->run(argc - 1, argv + 1);
    }
    fprintf(stderr, "tulle: no command \"%s\"\n\n", argv[1]);
    return help(stderr);
}

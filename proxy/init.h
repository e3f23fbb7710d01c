/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle-proxy init`: program the redirect rules of the pod's network namespace, then end. */
#pragma once

/* `argv[0]` is the verb. The exit code of the program; a failure says what the kernel refused. */
int init_run(int argc, char **argv);

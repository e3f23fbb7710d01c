/* SPDX-License-Identifier: Apache-2.0 */
/* `tulle-proxy run`: the small process that parses no network bytes. It opens the pod's sockets once,
 * keeps the last program and the identity that the data process hands over, and starts the data
 * process anew within a second when it dies, without closing the door: the kernel's backlog holds new
 * connections meanwhile. */
#pragma once

/* Path of tulle-proxy-data: beside this executable, or what TULLE_PROXY_DATA says. */
const char *supervisor_data_path(void);
/* Runs until the data process has drained after SIGTERM (or SIGINT); the exit code of the program.
 * `argv` starts with the verb `run` and is a part of
 * main's: it is handed to the data process as it is. */
int supervisor_run(int argc, char **argv);

/* SPDX-License-Identifier: Apache-2.0 */
/* The small commands that hooks and probes of the pod execute: they ask the running proxy over
 * loopback and end. Blocking, without threads; the exit code is the answer. */
#pragma once

/* `tulle-proxy ready`: 0 when the proxy is ready now. */
int hook_ready(void);
/* `tulle-proxy wait [--timeout SECONDS]`: until it is ready; 1 when the time is over (default 60). */
int hook_wait(int argc, char **argv);
/* `tulle-proxy drain [--wait SECONDS]`: begin to drain; with --wait return when that is done or the
 * time is over. 0 unless the proxy could not be told. */
int hook_drain(int argc, char **argv);

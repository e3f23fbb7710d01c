/* SPDX-License-Identifier: Apache-2.0 */
/* Where a program crashed, in one line of its log. */
#pragma once

/* From now on SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT log one line and then end the process as
 * they would have: msg=Crashed signal=SIGSEGV address=0x10 at=tulle-proxy-data+0x4a1c0
 * callers=0x4b2d7,0x13370 thread=... `at` is an offset within the named file, `callers` are offsets
 * within the executable, for `addr2line -e FILE`. Callers are read off the stack without unwind
 * tables: return addresses that are left over from earlier calls may stand among them. What
 * somebody handles already stays his (sanitizers). Both texts are borrowed for ever. */
void fault_install(const char *executable, const char *version);
/* From now on no core file is written, nor handed to a program, and no other process of this user
 * may look at this one's memory. (The last not under AddressSanitizer, whose leak check attaches to the
 * process.) */
void fault_no_core(void);
/* For each thread that begins: a stack for the line when the thread's own has overflowed. Nothing
 * is touched until then. */
void fault_thread(void);

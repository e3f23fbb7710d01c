/* SPDX-License-Identifier: Apache-2.0 */
/* What only the start needed is given back. */
#pragma once

/* Return free heap to the kernel, and forget the pages of code and constants that were mapped while the
 * process started (relocation, decoding, key setup): what is still used comes back from the page cache by
 * itself, at about a microsecond per 64 KiB. Pages that the process wrote are never touched. Any thread;
 * costs some milliseconds. */
void trim_after_start(void);

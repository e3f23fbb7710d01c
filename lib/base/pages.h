/* SPDX-License-Identifier: Apache-2.0 */
/* Single pages of zeroes, for what is large, mostly idle and empty while it is: its memory goes
 * back to the kernel by page_rest, and the page reads as zeroes again. Any thread may take and
 * give. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { PAGE_BYTES = 4096 };

/* A zeroed page; NULL when there is none (the caller then uses the heap). */
void *page_take(void);
void page_give(void *page);
/* Let go of the page's memory if it holds nothing but zeroes; false when it does not. */
bool page_rest(void *page);

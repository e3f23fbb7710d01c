/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/trim.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/base/libc.h"

/* Segments that may be written hold relocated tables: forgetting those would undo the relocation. The
 * rest is backed by the file, byte for byte. */
static int forget_object(struct dl_phdr_info *o, size_t size, void *user)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)size, (void)user;
    if (o->dlpi_name[0] == '\0' && o->dlpi_addr == 0)
        return 0; /* not position-independent: nothing of ours is built so */
    for (int i = 0; i < o->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &o->dlpi_phdr[i];
        if (p->p_type != PT_LOAD || p->p_flags & PF_W)
            continue;
        uintptr_t from = (o->dlpi_addr + p->p_vaddr + page - 1) & ~(page - 1);
        uintptr_t to = (o->dlpi_addr + p->p_vaddr + p->p_filesz) & ~(page - 1);
        if (from < to)
            madvise((void *)from, to - from, MADV_DONTNEED); /* vdso: refused, no harm */
    }
    return 0;
}

void trim_after_start(void)
{
    malloc_trim(0);
    dl_iterate_phdr(forget_object, NULL);
}

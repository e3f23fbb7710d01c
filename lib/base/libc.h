/* SPDX-License-Identifier: Apache-2.0 */
/* What musl, which the supervisor is linked with, lacks beside the C library of everything else. Include it
 * behind the system's headers. */
#ifndef TULLE_BASE_LIBC_H
#define TULLE_BASE_LIBC_H

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __GLIBC__

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008 /* linux/fs.h */
#endif

/* musl's strerror() gives constant text, too. */
static inline const char *strerrordesc_np(int errnum)
{
    return strerror(errnum);
}

/* preadv2(2); the kernel takes the offset in two halves, and -1 for the current one. */
static inline ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    return syscall(SYS_pwritev2, fd, iov, n, (long)offset, (long)(offset >> 32), flags);
}

/* musl gives free memory back by itself. */
static inline int malloc_trim(size_t pad)
{
    (void)pad;
    return 0;
}

#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/pemfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"

struct pemfile_stamp pemfile_stamp(const char *path)
{
    struct stat st;
    if (!path[0] || stat(path, &st) < 0)
        return (struct pemfile_stamp){0};
    return (struct pemfile_stamp){st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec, st.st_size,
                                  st.st_ino};
}

int pemfile_read(const char *path, struct slice *ret, struct err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *p = NULL;
    ssize_t n = -1;
    *ret = SLICE_NULL;
    if (fd < 0 || fstat(fd, &st) < 0)
        err_set(err, ERR_UNAVAILABLE, "%s: %s", path, strerror(errno));
    else if (st.st_size <= 0 || st.st_size > PEMFILE_MAX)
        err_set(err, ERR_UNAVAILABLE, "%s: is empty or too large", path);
    else if (!(p = mem_alloc((size_t)st.st_size)))
        err_set(err, ERR_NOMEM, "%s", path);
    else if ((n = read(fd, p, (size_t)st.st_size)) <= 0)
        err_set(err, ERR_UNAVAILABLE, "%s: cannot be read", path);
    if (fd >= 0)
        close(fd);
    if (n <= 0) {
        mem_free(p);
        return -1;
    }
    *ret = slice_of(p, (size_t)n);
    return 0;
}

void pemfile_wipe(struct slice s)
{
    if (s.p)
        explicit_bzero((void *)(uintptr_t)s.p, s.len);
    mem_free((void *)(uintptr_t)s.p);
}

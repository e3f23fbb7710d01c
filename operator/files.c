/* SPDX-License-Identifier: Apache-2.0 */
#include "operator/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/mem.h"

int file_read(const char *path, size_t max, char **ret, struct err *err)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, max);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "%s: no such file", path)
                               : err_errno(err, errno, "%s", path);
    for (;;) {
        char *p = buf_reserve(&b, MIN((size_t)16384, max - buf_len(&b) + 1));
        ssize_t n = p ? read(fd, p, MIN((size_t)16384, max - buf_len(&b) + 1)) : 0;
        if (n < 0) {
            int e = errno;
            close(fd);
            return err_errno(err, e, "%s", path);
        }
        if (n == 0)
            break;
        buf_commit(&b, (size_t)n);
    }
    close(fd);
    if (buf_err(&b) != ERR_OK)
        return err_set(err, buf_err(&b), "%s: more than %zu bytes", path, max);
    *ret = buf_take(&b, NULL);
    return *ret ? 0 : err_set(err, ERR_NOMEM, "%s", path);
}

int file_write(const char *path, unsigned mode, struct slice text, struct err *err)
{
    char tmp[4096];
    if ((size_t)snprintf(tmp, sizeof tmp, "%s.new", path) >= sizeof tmp)
        return err_set(err, ERR_LIMIT, "%s: name too long", path);
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode_t)mode);
    if (fd < 0)
        return err_errno(err, errno, "%s", tmp);
    ssize_t n = write(fd, text.p, text.len);
    int e = errno, rc = close(fd);
    if (n != (ssize_t)text.len || rc < 0 || rename(tmp, path) < 0) {
        unlink(tmp);
        return err_errno(err, n < 0 ? e : errno ? errno : EIO, "%s", path);
    }
    return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/buf.h"
#include "lib/base/cleanup.h"
#include "lib/base/mem.h"
#include "lib/kube/kube_int.h"

char *kube_read_file(const char *path, size_t max, size_t *ret_len, struct err *err)
{
    CLEANUP(buf_freep) struct buf b;
    buf_init(&b, max);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_errno(err, errno, "%s", path);
        if (err && errno == ENOENT)
            err->code = ERR_NOT_FOUND;
        return NULL;
    }
    ssize_t n;
    do {
        char piece[4096];
        n = read(fd, piece, sizeof piece);
        if (n > 0)
            buf_add(&b, piece, (size_t)n);
        explicit_bzero(piece, sizeof piece);
    } while ((n > 0 && !buf_err(&b)) || (n < 0 && errno == EINTR));
    int errnum = errno;
    close(fd);
    if (n < 0) {
        err_errno(err, errnum, "%s", path);
        return NULL;
    }
    char *text = buf_take(&b, ret_len);
    if (!text)
        err_set(err, b.failed == ERR_LIMIT ? ERR_LIMIT : ERR_NOMEM, "%s: longer than %zu bytes",
                path, max);
    return text;
}

void kube_wipe_free(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    mem_free(s);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/mem.h"

int handover_parse(const char *text, struct handover_fd *ret, int cap)
{
    struct slice rest = slice_str(text ? text : ""), item;
    int n = 0;
    if (rest.len == 0)
        return 0;
    while (slice_next(&rest, ',', &item)) {
        ptrdiff_t eq = slice_chr(item, '=');
        uint64_t fd;
        if (eq <= 0 || n == cap ||
            !slice_copy(slice_head(item, (size_t)eq), ret[n].name, sizeof ret[n].name) ||
            !slice_u64(slice_skip(item, (size_t)eq + 1), 1 << 20, &fd))
            return -1;
        ret[n++].fd = (int)fd;
    }
    return n;
}

bool handover_format(char *text, size_t cap, const char *name, int fd)
{
    size_t len = strlen(text);
    int n = snprintf(text + len, cap - len, "%s%s=%d", len ? "," : "", name, fd);
    return n > 0 && (size_t)n < cap - len;
}

static int write_all(int fd, struct slice s)
{
    while (s.len) {
        ssize_t n = write(fd, s.p, s.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        s = slice_skip(s, (size_t)n);
    }
    return 0;
}

/* fd -1: none goes along. */
static int send_named(int channel, const char *name, int fd, struct err *err)
{
    struct iovec iov = {(void *)(uintptr_t)name, strlen(name)};
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof control.buf;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    if (sendmsg(channel, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return err_errno(err, errno, "handing %s to the supervisor", name);
    return 0;
}

int handover_keep_fd(int channel, const char *name, int fd, struct err *err)
{
    return send_named(channel, name, fd, err);
}

int handover_drop(int channel, const char *name, struct err *err)
{
    return send_named(channel, name, -1, err);
}

int handover_keep(int channel, const char *name, struct slice bytes, struct err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return err_errno(err, errno, "memfd for %s", name);
    if (write_all(fd, bytes) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        err_errno(err, errno, "writing %s", name);
        close(fd);
        return -1;
    }
    int rc = handover_keep_fd(channel, name, fd, err);
    close(fd);
    return rc;
}

int handover_read(int fd, char **ret, size_t *ret_len, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(err, errno, "kept bytes");
    size_t len = (size_t)st.st_size;
    char *p = mem_alloc(len + 1);
    if (!p)
        return err_set(err, ERR_NOMEM, "kept bytes");
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(fd, p + at, len - at, (off_t)at);
        if (n <= 0) {
            mem_free(p);
            return err_errno(err, n < 0 ? errno : EIO, "kept bytes");
        }
        at += (size_t)n;
    }
    p[len] = '\0';
    *ret = p;
    *ret_len = len;
    return 0;
}

enum err_code handover_receive(int channel, char name[HANDOVER_NAME_MAX], int *ret_fd)
{
    struct iovec iov = {name, HANDOVER_NAME_MAX - 1};
    union {
        struct cmsghdr align;
        char buf[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
                         .msg_controllen = sizeof control.buf};
    ssize_t n = recvmsg(channel, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? ERR_AGAIN : ERR_IO;
    if (n == 0)
        return ERR_EOF;
    name[n] = '\0';
    *ret_fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (!c)
        return ERR_OK;
    if (c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof(int)))
        return ERR_PROTO;
    memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
    return ERR_OK;
}

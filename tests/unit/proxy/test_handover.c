/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/tcase.h"

static const struct {
    const char *text;
    int want; /* -1: broken */
} lists[] = {
    {"", 0},
    {"outbound=5", 1},
    {"outbound=5,outbound=6,keep.program=9", 3},
    {"outbound", -1},
    {"outbound=", -1},
    {"outbound=x", -1},
    {"=5", -1},
    {"a-name-that-is-longer-than-a-name-may-be=5", -1},
};

START_TEST(list_of_descriptors)
{
    struct handover_fd fds[8];
    ck_assert_msg(handover_parse(lists[_i].text, fds, 8) == lists[_i].want, "%s", lists[_i].text);
}
END_TEST

START_TEST(format_is_read_back)
{
    char text[64] = "";
    struct handover_fd fds[4];
    ck_assert(handover_format(text, sizeof text, "outbound", 5));
    ck_assert(handover_format(text, sizeof text, "keep.program", 17));
    ck_assert_int_eq(handover_parse(text, fds, 4), 2);
    ck_assert_str_eq(fds[0].name, "outbound");
    ck_assert_int_eq(fds[1].fd, 17);
    char small[8] = "";
    ck_assert(!handover_format(small, sizeof small, "outbound", 5));
}
END_TEST

START_TEST(kept_bytes_are_sealed)
{
    int pair[2], fd;
    char name[HANDOVER_NAME_MAX], *got;
    size_t len;
    struct err err = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    ck_assert_int_eq(handover_receive(pair[0], name, &fd), ERR_AGAIN);
    ck_assert_int_eq(handover_keep(pair[1], "program", SL("some bytes"), &err), 0);
    ck_assert_int_eq(handover_receive(pair[0], name, &fd), ERR_OK);
    ck_assert_str_eq(name, "program");
    ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1); /* nobody changes it any more */
    ck_assert_int_eq(ftruncate(fd, 0), -1);
    for (int i = 0; i < 2; i++) { /* each data process reads it from its start */
        ck_assert_int_eq(handover_read(fd, &got, &len, &err), 0);
        ck_assert(slice_is(slice_of(got, len), "some bytes"));
        mem_free(got);
    }
    close(fd);
    close(pair[1]);
    ck_assert_int_eq(handover_receive(pair[0], name, &fd), ERR_EOF);
    close(pair[0]);
}
END_TEST

START_TEST(descriptors_are_kept_and_dropped)
{
    int pair[2], fd = 99;
    char name[HANDOVER_NAME_MAX];
    struct err err = {0};
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    ck_assert_int_eq(handover_keep_fd(pair[1], "gate.0.80.x", pair[1], &err), 0);
    ck_assert_int_eq(handover_receive(pair[0], name, &fd), ERR_OK);
    ck_assert_str_eq(name, "gate.0.80.x");
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(handover_drop(pair[1], "gate.0.80.x", &err), 0);
    ck_assert_int_eq(handover_receive(pair[0], name, &fd), ERR_OK);
    ck_assert_str_eq(name, "gate.0.80.x");
    ck_assert_int_eq(fd, -1);
    close(pair[0]);
    close(pair[1]);
}
END_TEST

TESTS(handover)
{
    tcase_add_loop_test(tc, list_of_descriptors, 0, N_OF(lists));
    tcase_add_test(tc, format_is_read_back);
    tcase_add_test(tc, kept_bytes_are_sealed);
    tcase_add_test(tc, descriptors_are_kept_and_dropped);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Figures of this process under the names that Prometheus' clients gave them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/obs/metrics.h"

/* A small file of /proc, NUL-terminated; false when it cannot be read. */
static bool read_proc(const char *path, char *ret, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, ret, cap - 1);
    close(fd);
    ret[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static void one(struct metrics_writer *w, const char *name, const char *unit, const char *help,
                enum metric_type type, double v)
{
    struct metric_def d = {.name = name, .help = help, .unit = unit, .type = type};

    metrics_family(w, &d);
    metrics_sample(w, &d, NULL, NULL, 0, v);
}

static double boot_time(void)
{
    char text[8192], *line;

    if (!read_proc("/proc/stat", text, sizeof text) || !(line = strstr(text, "\nbtime ")))
        return 0;
    return strtod(line + 7, NULL);
}

static unsigned open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    if (!d)
        return 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; /* ".", ".." and the folder itself */
}

void metrics_process(void *user, struct metrics_writer *w)
{
    unsigned long utime = 0, stime = 0;
    unsigned long long start = 0;
    double tick = (double)sysconf(_SC_CLK_TCK);
    char text[1024], *p;
    long rss = 0;

    (void)user;
    if (!read_proc("/proc/self/stat", text, sizeof text) || !(p = strrchr(text, ')')))
        return;
    /* proc(5): fields 14, 15, 22 and 24, counted from the state behind the name */
    if (sscanf(p + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu "
               "%*u %ld",
               &utime, &stime, &start, &rss) != 4)
        return;
    one(w, "process_cpu_seconds_total", NULL, "CPU time used, user and system.", METRIC_COUNTER,
        (double)(utime + stime) / tick);
    one(w, "process_resident_memory_bytes", "bytes", "Resident memory.", METRIC_GAUGE,
        (double)rss * (double)sysconf(_SC_PAGESIZE));
    one(w, "process_open_fds", NULL, "Open file descriptors.", METRIC_GAUGE, open_files());
    one(w, "process_start_time_seconds", "seconds", "Start, in seconds since 1970.", METRIC_GAUGE,
        boot_time() + (double)start / tick);
}

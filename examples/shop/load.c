/* SPDX-License-Identifier: Apache-2.0 */
/* A load client that hides nothing: it never retries, counts each request that did not end in a good
 * answer, and says who answered. Fixed rate with the delay measured from when a request was due
 * (coordinated omission corrected), or as fast as N connections go.
 *
 *   load [--rate N] [--seconds S] [--count N] [--connections N] [--header "k: v"]... URL
 *
 * Prints one JSON object: requests, failed, status counts, versions (by x-version), p50/p99/max in ms.
 * SIGTERM ends the run early and prints what was measured. */
#include <curl/curl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CONNECTIONS_MAX = 256, VERSIONS_MAX = 8, SAMPLES_MAX = 2000000 };

struct slot {
    CURL *easy;
    int busy;
    double due;
    char version[16];
};

static volatile sig_atomic_t stop;
static long status_count[1000], errors;
static struct {
    char name[16];
    long n;
} versions[VERSIONS_MAX];
static float *samples;
static long n_samples;
static char first_error[CURL_ERROR_SIZE + 64];

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    (void)p, (void)user;
    return size * n;
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
    struct slot *s = user;
    static const char key[] = "x-version:";
    if (n > sizeof key && strncasecmp(p, key, sizeof key - 1) == 0)
        sscanf(p + sizeof key - 1, " %15s", s->version);
    return size * n;
}

static void count_version(const char *v)
{
    for (int i = 0; i < VERSIONS_MAX && *v; i++) {
        if (!versions[i].name[0])
            snprintf(versions[i].name, sizeof versions[i].name, "%s", v);
        if (strcmp(versions[i].name, v) == 0) {
            versions[i].n++;
            return;
        }
    }
}

static void finish(struct slot *s, CURLcode rc)
{
    long status = 0;
    if (rc == CURLE_OK)
        curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
    if (rc != CURLE_OK) {
        errors++;
        if (!first_error[0])
            snprintf(first_error, sizeof first_error, "%s", curl_easy_strerror(rc));
    } else if (status < 1000) {
        status_count[status]++;
        count_version(s->version);
    }
    if (n_samples < SAMPLES_MAX)
        samples[n_samples++] = (float)((now() - s->due) * 1000);
    s->busy = 0;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return n_samples ? samples[(long)(q * (double)(n_samples - 1))] : 0;
}

static void report(double seconds)
{
    long total = errors, failed = errors;
    const char *comma = "";
    for (int i = 0; i < 1000; i++) {
        total += status_count[i];
        failed += i < 200 || i >= 400 ? status_count[i] : 0;
    }
    qsort(samples, (size_t)n_samples, sizeof *samples, by_value);
    printf("{\"requests\":%ld,\"failed\":%ld,\"seconds\":%.1f,\"status\":{", total, failed, seconds);
    for (int i = 0; i < 1000; i++) {
        if (status_count[i]) {
            printf("%s\"%d\":%ld", comma, i, status_count[i]);
            comma = ",";
        }
    }
    printf("},\"errors\":%ld,\"first_error\":\"%s\",\"versions\":{", errors, first_error);
    comma = "";
    for (int i = 0; i < VERSIONS_MAX && versions[i].name[0]; i++) {
        printf("%s\"%s\":%ld", comma, versions[i].name, versions[i].n);
        comma = ",";
    }
    printf("},\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f}\n", quantile(0.5), quantile(0.99),
           quantile(1));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct option table[] = {{"rate", 1, NULL, 'r'},        {"seconds", 1, NULL, 's'},
                                          {"count", 1, NULL, 'n'},       {"connections", 1, NULL, 'c'},
                                          {"header", 1, NULL, 'h'},      {"close", 0, NULL, 'x'},
                                          {0}};
    static struct slot slots[CONNECTIONS_MAX];
    double rate = 0, seconds = 10;
    long count = -1, connections = 8, close_each = 0;
    struct curl_slist *headers = NULL;
    int c;
    while ((c = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (c) {
        case 'r': rate = atof(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'n': count = atol(optarg); seconds = 3600; break;
        case 'c': connections = atol(optarg); break;
        case 'h': headers = curl_slist_append(headers, optarg); break;
        case 'x': close_each = 1; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || connections < 1 || connections > CONNECTIONS_MAX) {
        fprintf(stderr, "usage: load [--rate N] [--seconds S] [--count N] [--connections N] URL\n");
        return 2;
    }
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    signal(SIGPIPE, SIG_IGN);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, connections);
    for (long i = 0; i < connections; i++) {
        CURL *e = slots[i].easy = curl_easy_init();
        curl_easy_setopt(e, CURLOPT_URL, argv[optind]);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(e, CURLOPT_HEADERDATA, &slots[i]);
        curl_easy_setopt(e, CURLOPT_PRIVATE, &slots[i]);
        curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, 15000L);
        curl_easy_setopt(e, CURLOPT_FORBID_REUSE, close_each);
    }
    double start = now(), next = start;
    long sent = 0, busy = 0;
    while (busy || !stop) {
        double t = now();
        int over = stop || t - start >= seconds || (count >= 0 && sent >= count);
        for (long i = 0; !over && i < connections; i++) {
            struct slot *s = &slots[i];
            if (s->busy)
                continue;
            if ((rate > 0 && next > t) || (count >= 0 && sent >= count))
                break;
            s->due = rate > 0 ? next : t;
            next += rate > 0 ? 1 / rate : 0;
            s->busy = 1;
            s->version[0] = '\0';
            curl_multi_add_handle(multi, s->easy);
            sent++, busy++;
        }
        if (over && !busy)
            break;
        int running, left;
        curl_multi_perform(multi, &running);
        for (CURLMsg *m; (m = curl_multi_info_read(multi, &left));) {
            struct slot *s;
            CURLcode rc = m->data.result;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
            finish(s, rc);
            curl_multi_remove_handle(multi, s->easy);
            busy--;
        }
        double wait = rate > 0 && !over ? next - now() : 0.1;
        if (busy < connections && rate <= 0 && !over)
            wait = 0;
        curl_multi_poll(multi, NULL, 0, wait <= 0 ? 0 : wait > 0.1 ? 100 : (int)(wait * 1000) + 1, NULL);
    }
    report(now() - start);
    return 0;
}

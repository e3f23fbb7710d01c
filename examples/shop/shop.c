/* SPDX-License-Identifier: Apache-2.0 */
/* One service of the shop: answers every request with a line of JSON that says who answered, after
 * calling the services that it depends on. It knows nothing of a mesh: plain HTTP by service name.
 *
 *   NAME     what it is called in its answers ("checkout")
 *   VERSION  "v1", "v2"; sent as x-version, too
 *   PORT     where it listens (8080)
 *   CALLS    services to call, separated by blanks ("http://payment/ http://order/")
 *   DELAY_MS how long it thinks
 *   LAME_MS  how long it serves on after SIGTERM, until clients have learned that it goes (2000)
 *
 * GET /healthz says ok. GET /call?url=URL calls that URL and tells what came of it (for tests from
 * inside a pod). At SIGTERM it serves on for a while, then lets requests end and leaves. Trace headers
 * are passed on, as an application in any mesh must do. */
#include <curl/curl.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_MAX = 8192 };

static const char *name = "shop", *version = "v1", *calls = "";
static int delay_ms;
static atomic_int leaving, under_way;

static const char *const passed_on[] = {"x-request-id", "traceparent",  "tracestate", "b3",
                                        "x-b3-traceid", "x-b3-spanid",  "x-b3-sampled",
                                        "x-b3-parentspanid", "x-user"};

struct text {
    char p[TEXT_MAX];
    size_t len;
};

static void text_add(struct text *t, const char *p, size_t n)
{
    if (n > sizeof t->p - 1 - t->len)
        n = sizeof t->p - 1 - t->len;
    memcpy(t->p + t->len, p, n);
    t->len += n;
    t->p[t->len] = '\0';
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    text_add(user, p, size * n);
    return size * n;
}

static struct curl_slist *headers_of(struct MHD_Connection *c)
{
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < sizeof passed_on / sizeof *passed_on; i++) {
        const char *v = MHD_lookup_connection_value(c, MHD_HEADER_KIND, passed_on[i]);
        char line[1024];
        if (v && snprintf(line, sizeof line, "%s: %s", passed_on[i], v) < (int)sizeof line)
            list = curl_slist_append(list, line);
    }
    return list;
}

/* Each thread of the server keeps one handle, so that connections are reused. */
static CURL *thread_handle(void)
{
    static _Thread_local CURL *handle;
    if (!handle)
        handle = curl_easy_init();
    return handle;
}

/* Call `url`; the answer's text (or the error) goes to `answer`. Returns the status, 0 for none. */
static long call(struct MHD_Connection *c, const char *url, struct text *answer)
{
    CURL *h = thread_handle();
    long status = 0;
    char why[CURL_ERROR_SIZE] = "";
    if (!h)
        return 0;
    struct curl_slist *list = headers_of(c);
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, 10000L);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    if (curl_easy_perform(h) == CURLE_OK)
        curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, &status);
    else
        text_add(answer, why, strlen(why));
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(list);
    return status;
}

static void json_text(struct text *t, const char *p, size_t n)
{
    text_add(t, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        char esc[8];
        unsigned char b = (unsigned char)p[i];
        if (b == '"' || b == '\\' || b < 0x20)
            text_add(t, esc, (size_t)snprintf(esc, sizeof esc, "\\u%04x", b));
        else
            text_add(t, p + i, 1);
    }
    text_add(t, "\"", 1);
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status, const struct text *t)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(t->len, (void *)t->p, MHD_RESPMEM_MUST_COPY);
    if (!r)
        return MHD_NO;
    MHD_add_response_header(r, "content-type", "application/json");
    MHD_add_response_header(r, "x-service", name);
    MHD_add_response_header(r, "x-version", version);
    if (atomic_load(&leaving))
        MHD_add_response_header(r, "connection", "close");
    enum MHD_Result rc = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result serve_call(struct MHD_Connection *c)
{
    const char *url = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "url");
    struct text got = {0}, out = {0};
    char line[64];
    long status = url ? call(c, url, &got) : 0;
    text_add(&out, line, (size_t)snprintf(line, sizeof line, "{\"status\":%ld,\"body\":", status));
    json_text(&out, got.p, got.len > 2000 ? 2000 : got.len);
    text_add(&out, "}\n", 2);
    return answer(c, 200, &out);
}

static enum MHD_Result serve(void *user, struct MHD_Connection *c, const char *path,
                             const char *method, const char *http, const char *data,
                             size_t *data_len, void **state)
{
    static int seen;
    struct text out = {0};
    (void)user, (void)method, (void)http, (void)data;
    if (!*state) {
        *state = &seen; /* the head came; the body follows */
        atomic_fetch_add(&under_way, 1);
        return MHD_YES;
    }
    if (*data_len) {
        *data_len = 0;
        return MHD_YES;
    }
    if (strcmp(path, "/healthz") == 0) {
        text_add(&out, "ok\n", 3);
        return answer(c, 200, &out);
    }
    if (strcmp(path, "/call") == 0)
        return serve_call(c);
    if (delay_ms)
        usleep((useconds_t)delay_ms * 1000);
    unsigned status = 200;
    char line[256], list[1024], *rest = list;
    snprintf(list, sizeof list, "%s", calls);
    text_add(&out, line, (size_t)snprintf(line, sizeof line,
                                          "{\"service\":\"%s\",\"version\":\"%s\",\"calls\":[", name,
                                          version));
    for (char *url, first = 1; (url = strtok_r(rest, " ", &rest)); first = 0) {
        struct text got = {0};
        long got_status = call(c, url, &got);
        if (got_status >= 500 || got_status == 0)
            status = 502;
        if (!first)
            text_add(&out, ",", 1);
        if (got_status == 200 && got.len && got.p[0] == '{') {
            text_add(&out, got.p, got.len - (got.p[got.len - 1] == '\n'));
        } else {
            text_add(&out, line, (size_t)snprintf(line, sizeof line, "{\"url\":\"%.80s\",\"status\":%ld}",
                                                  url, got_status));
        }
    }
    text_add(&out, "]}\n", 3);
    return answer(c, status, &out);
}

static void over(void *user, struct MHD_Connection *c, void **state,
                 enum MHD_RequestTerminationCode why)
{
    (void)user, (void)c, (void)why;
    if (*state)
        atomic_fetch_sub(&under_way, 1);
}

int main(void)
{
    const char *port = getenv("PORT"), *delay = getenv("DELAY_MS"), *lame = getenv("LAME_MS"), *v;
    if ((v = getenv("NAME")))
        name = v;
    if ((v = getenv("VERSION")))
        version = v;
    if ((v = getenv("CALLS")))
        calls = v;
    delay_ms = delay ? atoi(delay) : 0;
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    struct MHD_Daemon *d = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL,
        (uint16_t)(port ? atoi(port) : 8080), NULL, NULL, serve, NULL, MHD_OPTION_CONNECTION_TIMEOUT,
        120u, MHD_OPTION_NOTIFY_COMPLETED, over, NULL, MHD_OPTION_THREAD_STACK_SIZE, (size_t)256 * 1024, MHD_OPTION_END);
    if (!d) {
        fprintf(stderr, "%s: cannot listen on port %s\n", name, port ? port : "8080");
        return EXIT_FAILURE;
    }
    fprintf(stderr, "%s %s listens on port %s\n", name, version, port ? port : "8080");
    int sig;
    sigwait(&set, &sig);
    /* What a careful application does at its end: serve on until nobody new comes, finish what runs. */
    atomic_store(&leaving, 1);
    usleep((useconds_t)(lame ? atoi(lame) : 2000) * 1000);
    MHD_socket listener = MHD_quiesce_daemon(d);
    for (int i = 0; i < 200 && atomic_load(&under_way); i++)
        usleep(25 * 1000);
    MHD_stop_daemon(d);
    if (listener != MHD_INVALID_SOCKET)
        close(listener);
    return EXIT_SUCCESS;
}

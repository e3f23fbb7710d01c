/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/tcase.h"

#include <fcntl.h>

#include "lib/kube/client.h"
#include "tests/unit/lib/kube/fake_api.h"

struct rig {
    struct clock clock;
    struct loop *loop;
    struct fake_api api;
    struct kube_config config;
    struct kube_client *client;
    unsigned exchanges;
    char codes[128];
};

static void on_request(void *user, const char *code, const char *method, const char *host,
                       int64_t duration_ns)
{
    struct rig *r = user;
    size_t n = strlen(r->codes);
    ck_assert(duration_ns >= 0);
    ck_assert(strncmp(host, "127.0.0.1:", 10) == 0);
    r->exchanges++;
    snprintf(r->codes + n, sizeof r->codes - n, "%s %s;", method, code);
}

static void rig_up(struct rig *r, const struct fake_step *steps, size_t n)
{
    struct err err = {0};
    memset(r, 0, sizeof *r);
    clock_init_real(&r->clock);
    ck_assert_int_eq(loop_new(&r->clock, &r->loop, &err), 0);
    fake_start(&r->api, r->loop, steps, n);
    r->config.server = r->api.url;
}

static void rig_client(struct rig *r, size_t max_body)
{
    struct err err = {0};
    struct kube_client_opts opts = {
        .max_body_bytes = max_body, .on_request = on_request, .user = r};
    ck_assert_msg(kube_client_new(r->loop, &r->config, &opts, &r->client, &err) == 0, "%s",
                  err.msg);
}

static void rig_down(struct rig *r)
{
    ck_assert_uint_eq(r->api.mismatches, 0);
    kube_client_free(r->client);
    fake_stop(&r->api);
    loop_free(r->loop);
}

static const struct {
    const char *name;
    struct fake_step step;
    enum err_code code;
    const char *reason, *text;
} answers[] = {
    {"a body",
     {"GET /x HTTP/1.1\r\n\nAccept: application/json\r\n", 200, "", "{\"a\":1}", 0},
     ERR_OK,
     "",
     ""},
    {"no body", {"GET /x", 204, "", "", 0}, ERR_OK, "", ""},
    {"a Status",
     {"GET /x", 409, "",
      "{\"kind\":\"Status\",\"reason\":\"Conflict\",\"message\":\"the object has changed\"}", 0},
     ERR_CONFLICT,
     "Conflict",
     "the object has changed"},
    {"exists",
     {"GET /x", 409, "", "{\"reason\":\"AlreadyExists\",\"message\":\"m\"}", 0},
     ERR_EXISTS,
     "AlreadyExists",
     "m"},
    {"not found in plain text",
     {"GET /x", 404, "", "404 page not found\n", 0},
     ERR_NOT_FOUND,
     "",
     "HTTP 404: 404 page not found"},
    {"gone",
     {"GET /x", 410, "", "{\"reason\":\"Expired\",\"message\":\"too old\"}", 0},
     ERR_GONE,
     "Expired",
     "too old"},
    {"forbidden",
     {"GET /x", 403, "", "{\"reason\":\"Forbidden\",\"message\":\"no\"}", 0},
     ERR_DENIED,
     "Forbidden",
     "no"},
    {"broken JSON", {"GET /x", 200, "", "{\"a\":", 0}, ERR_PROTO, "", "JSON at byte"},
    {"too long",
     {"GET /x", 200, "",
      "{\"a\":\"0123456789012345678901234567890123456789"
      "0123456789012345678901234567890123456789012345678901234567890123456789\"}",
      0},
     ERR_LIMIT,
     "",
     "longer than 100 bytes"},
    {"cut off", {"GET /x", 0, "", "", 0}, ERR_UNAVAILABLE, "", "127.0.0.1"},
};

START_TEST(answer_means)
{
    struct rig r;
    struct err err = {0};
    struct kube_req req = {.method = "GET", .path = "/x", .no_retry = true};
    json_t *body = NULL;
    /* libcurl tries a fresh connection once more only when a kept one broke: not here */
    rig_up(&r, &answers[_i].step, 1);
    rig_client(&r, 100);
    int rc = kube_wait(r.client, &req, &body, &err);
    ck_assert_msg(rc == (answers[_i].code == ERR_OK ? 0 : -1), "%s: %s", answers[_i].name, err.msg);
    ck_assert_msg(err.code == answers[_i].code, "%s: %s", answers[_i].name, err.msg);
    ck_assert_msg(strstr(err.msg, answers[_i].text) != NULL, "%s: %s", answers[_i].name, err.msg);
    if (strcmp(answers[_i].name, "a body") == 0)
        ck_assert_int_eq(json_integer_value(json_object_get(body, "a")), 1);
    json_decref(body);
    ck_assert_uint_eq(r.exchanges, 1);
    ck_assert_uint_eq(kube_client_in_flight(r.client), 0);
    rig_down(&r);
}
END_TEST

START_TEST(body_and_headers_go_out)
{
    static const struct fake_step steps[] = {
        {"PATCH /api/v1/x?fieldManager=a HTTP/1.1\nContent-Type: application/apply-patch+yaml\r\n"
         "\nAuthorization: Bearer sesame\r\n\nUser-Agent: tulle/\n{\"b\":[true,null]}",
         200, "", "{}", 0},
    };
    struct rig r;
    struct err err = {0};
    rig_up(&r, steps, 1);
    r.config.token = (char *)"sesame";
    rig_client(&r, 0);
    json_t *body = json_pack("{s:[b,n]}", "b", 1);
    struct kube_req req = {.method = "PATCH",
                           .path = "/api/v1/x",
                           .query = "fieldManager=a",
                           .content_type = "application/apply-patch+yaml",
                           .body = body};
    ck_assert_msg(kube_wait(r.client, &req, NULL, &err) == 0, "%s", err.msg);
    ck_assert_ptr_null(strstr(r.api.seen[0], "Expect:"));
    json_decref(body);
    rig_down(&r);
}
END_TEST

/* API Priority and Fairness: 429 with Retry-After is repeated, and so is 503 with it. */
START_TEST(too_many_requests_is_repeated)
{
    static const struct fake_step steps[] = {
        {"GET /x", 429, "Retry-After: 1\r\n", "{}", 0},
        {"GET /x", 503, "Retry-After: 1\r\n", "{}", 0},
        {"GET /x", 200, "", "{}", 0},
    };
    struct rig r;
    struct err err = {0};
    struct kube_req req = {.method = "GET", .path = "/x"};
    rig_up(&r, steps, 3);
    rig_client(&r, 0);
    int64_t begin = clock_now(&r.clock);
    ck_assert_msg(kube_wait(r.client, &req, NULL, &err) == 0, "%s", err.msg);
    ck_assert_int_ge(clock_now(&r.clock) - begin, 2 * NS_PER_S);
    ck_assert_str_eq(r.codes, "GET 429;GET 503;GET 200;");
    rig_down(&r);
}
END_TEST

static void keep_resp(void *user, struct kube_resp *resp)
{
    struct kube_resp *keep = user;
    *keep = *resp;
    keep->body = NULL;
    keep->status = resp->status ? resp->status : -1;
}

START_TEST(retry_after_is_handed_over)
{
    static const struct fake_step steps[] = {{"GET /x", 429, "Retry-After: 7\r\n", "{}", 0}};
    struct rig r;
    struct kube_resp got = {0};
    struct kube_req req = {.method = "GET", .path = "/x", .no_retry = true};
    rig_up(&r, steps, 1);
    rig_client(&r, 0);
    ck_assert_ptr_nonnull(kube_request(r.client, &req, keep_resp, &got));
    TURN_UNTIL(r.loop, got.status);
    ck_assert_int_eq(got.status, 429);
    ck_assert_int_eq(got.retry_after_ms, 7000);
    ck_assert_int_eq(got.err.code, ERR_UNAVAILABLE);
    rig_down(&r);
}
END_TEST

START_TEST(deadline_ends_the_call)
{
    static const struct fake_step steps[] = {{"GET /x", -1, "", "", 0}};
    struct rig r;
    struct err err = {0};
    struct kube_req req = {.method = "GET", .path = "/x", .timeout_ms = 60};
    rig_up(&r, steps, 1);
    rig_client(&r, 0);
    ck_assert_int_eq(kube_wait(r.client, &req, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_TIMEOUT);
    ck_assert_str_eq(r.codes, "GET <error>;");
    rig_down(&r);
}
END_TEST

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

/* The kubelet rotates the projected token: after a 401 the file is read again, once. */
START_TEST(token_is_read_again)
{
    static const struct fake_step steps[] = {
        {"Authorization: Bearer old\r\n", 401, "", "{\"message\":\"m\"}", 0},
        {"Authorization: Bearer new\r\n", 200, "", "{}", 0},
        {"Authorization: Bearer new\r\n", 401, "", "{\"message\":\"m\"}", 0},
        {"Authorization: Bearer new\r\n", 401, "", "{\"message\":\"m\"}", 0},
    };
    char path[] = "/tmp/tulle-token-XXXXXX";
    struct rig r;
    struct err err = {0};
    struct kube_req req = {.method = "GET", .path = "/x"};
    close(mkstemp(path));
    write_file(path, "old\n");
    rig_up(&r, steps, 4);
    r.config.token_file = path;
    rig_client(&r, 0);
    write_file(path, "new\n");
    ck_assert_msg(kube_wait(r.client, &req, NULL, &err) == 0, "%s", err.msg);
    ck_assert_int_eq(kube_wait(r.client, &req, NULL, &err), -1);
    ck_assert_int_eq(err.code, ERR_DENIED);
    unlink(path);
    rig_down(&r);
}
END_TEST

struct stream {
    char text[256];
    struct kube_call *call;
    struct kube_client *client;
    enum { GO_ON, END, CANCEL, FREE_CLIENT } then;
    int done;
    enum err_code code;
};

static int stream_data(void *user, struct slice bytes)
{
    struct stream *s = user;
    strncat(s->text, bytes.p, bytes.len);
    if (s->then == CANCEL)
        kube_cancel(s->call);
    if (s->then == FREE_CLIENT)
        kube_client_free(s->client);
    return s->then == END ? -1 : 0;
}

static void stream_done(void *user, struct kube_resp *resp)
{
    struct stream *s = user;
    s->done++;
    s->code = resp->err.code;
}

START_TEST(stream_in_pieces)
{
    static const struct fake_step steps[] = {{"GET /w?watch=true", 200, "", "one ", true}};
    struct rig r;
    struct stream s = {.then = _i};
    struct kube_req req = {.method = "GET",
                           .path = "/w",
                           .query = "watch=true",
                           .timeout_ms = -1,
                           .on_data = stream_data};
    rig_up(&r, steps, 1);
    rig_client(&r, 0);
    s.client = r.client;
    s.call = kube_request(r.client, &req, stream_done, &s);
    TURN_UNTIL(r.loop, *s.text);
    if (s.then == GO_ON) {
        ck_assert_str_eq(s.text, "one ");
        ck_assert_int_eq(s.done, 0);
        fake_push(&r.api, "two");
        TURN_UNTIL(r.loop, strstr(s.text, "two"));
        fake_end(&r.api);
        TURN_UNTIL(r.loop, s.done);
        ck_assert_str_eq(s.text, "one two");
        ck_assert_int_eq(s.code, ERR_OK);
    } else if (s.then == END) {
        TURN_UNTIL(r.loop, s.done);
        ck_assert_int_eq(s.code, ERR_CLOSED);
    } else {
        for (int i = 0; i < 5; i++)
            loop_turn(r.loop, 5, NULL);
        ck_assert_int_eq(s.done, 0);
        if (s.then == FREE_CLIENT)
            r.client = NULL;
        else
            ck_assert_uint_eq(kube_client_in_flight(r.client), 0);
    }
    rig_down(&r);
}
END_TEST

/* A streamed call whose answer is an error collects it and reports it as any other. */
START_TEST(stream_refused)
{
    static const struct fake_step steps[] = {
        {"GET /w", 410, "", "{\"reason\":\"Expired\",\"message\":\"too old\"}", 0}};
    struct rig r;
    struct stream s = {0};
    struct kube_req req = {.method = "GET", .path = "/w", .on_data = stream_data};
    rig_up(&r, steps, 1);
    rig_client(&r, 0);
    kube_request(r.client, &req, stream_done, &s);
    TURN_UNTIL(r.loop, s.done);
    ck_assert_int_eq(s.code, ERR_GONE);
    ck_assert_str_eq(s.text, "");
    rig_down(&r);
}
END_TEST

static void done_frees_client(void *user, struct kube_resp *resp)
{
    struct stream *s = user;
    (void)resp;
    s->done++;
    kube_client_free(s->client);
}

/* The client may be freed in a callback, other calls in flight. */
START_TEST(client_freed_in_callback)
{
    static const struct fake_step steps[] = {{"GET /", -1, "", "", 0}, {"GET /", 200, "", "{}", 0}};
    struct rig r;
    struct stream s = {0}, other = {0};
    struct kube_req req = {.method = "GET", .path = "/x"};
    rig_up(&r, steps, 2);
    rig_client(&r, 0);
    s.client = r.client;
    kube_request(r.client, &req, stream_done, &other);
    TURN_UNTIL(r.loop, r.api.n_seen == 1);
    kube_request(r.client, &req, done_frees_client, &s);
    TURN_UNTIL(r.loop, s.done);
    for (int i = 0; i < 3; i++)
        loop_turn(r.loop, 1, NULL);
    ck_assert_int_eq(other.done, 0);
    r.client = NULL;
    rig_down(&r);
}
END_TEST

START_TEST(cancelled_before_it_started)
{
    struct rig r;
    struct stream s = {0};
    struct kube_req req = {.method = "GET", .path = "/x"};
    rig_up(&r, NULL, 0);
    rig_client(&r, 0);
    kube_cancel(kube_request(r.client, &req, stream_done, &s));
    kube_cancel(NULL);
    for (int i = 0; i < 3; i++)
        loop_turn(r.loop, 5, NULL);
    ck_assert_int_eq(s.done, 0);
    ck_assert_uint_eq(r.api.n_seen, 0);
    rig_down(&r);
}
END_TEST

static const struct {
    const char *server, *token, *text;
} refused[] = {
    {"ftp://x", NULL, "not an http(s) URL"},
    {"https://", NULL, "no host"},
    {"https://u@h", NULL, "no host"},
    {"http://example.com", "t", "credentials in plaintext"},
};

START_TEST(server_refused)
{
    struct rig r;
    struct err err = {0};
    rig_up(&r, NULL, 0);
    r.config.server = (char *)refused[_i].server;
    r.config.token = (char *)refused[_i].token;
    ck_assert_int_eq(kube_client_new(r.loop, &r.config, NULL, &r.client, &err), -1);
    ck_assert_msg(strstr(err.msg, refused[_i].text) != NULL, "%s", err.msg);
    ck_assert_ptr_null(r.client);
    rig_down(&r);
}
END_TEST

/* A plugin that nobody has run is no credential; one that was run is. */
START_TEST(plugin_not_run)
{
    struct rig r;
    struct err err = {0};
    rig_up(&r, NULL, 0);
    r.config.exec = json_object();
    r.config.user = (char *)"jane";
    ck_assert_int_eq(kube_client_new(r.loop, &r.config, NULL, &r.client, &err), -1);
    ck_assert_int_eq(err.code, ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.msg, "users: 'jane': exec: ") != NULL, "%s", err.msg);
    r.config.token = (char *)"t";
    ck_assert_int_eq(kube_client_new(r.loop, &r.config, NULL, &r.client, &err), 0);
    json_decref(r.config.exec);
    r.config.exec = NULL;
    rig_down(&r);
}
END_TEST

TESTS(kube_client)
{
    tcase_add_test(tc, plugin_not_run);
    tcase_add_loop_test(tc, answer_means, 0, N_OF(answers));
    tcase_add_test(tc, body_and_headers_go_out);
    tcase_add_test(tc, too_many_requests_is_repeated);
    tcase_add_test(tc, retry_after_is_handed_over);
    tcase_add_test(tc, deadline_ends_the_call);
    tcase_add_test(tc, token_is_read_again);
    tcase_add_loop_test(tc, stream_in_pieces, 0, 4);
    tcase_add_test(tc, stream_refused);
    tcase_add_test(tc, client_freed_in_callback);
    tcase_add_test(tc, cancelled_before_it_started);
    tcase_add_loop_test(tc, server_refused, 0, N_OF(refused));
}

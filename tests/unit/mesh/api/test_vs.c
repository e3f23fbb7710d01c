/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/api/vs.h"
#include "tests/unit/mesh/api/api_test.h"

#define ROUTE "route: [{destination: {host: b}}]"
#define ONE(http) "{hosts: [a], http: [{" http "}]}"

static const struct check_case cases[] = {
    {"least", ONE(ROUTE), ""},
    {"everything that M4 serves",
     "{hosts: [a.example.com, '*.example.org', 10.1.2.3], gateways: [mesh], http: [{name: r, "
     "match: [{uri: {exact: /x}, headers: {X-User: {regex: 'a+'}}, method: {exact: GET}, "
     "queryParams: {q: {}}, withoutHeaders: {y: {prefix: z}}, sourceLabels: {app: c}, port: 80}], "
     "route: [{destination: {host: b, subset: v1, port: {number: 80}}, weight: 90, headers: "
     "{request: {set: {x-a: b}}, response: {remove: [y]}}}, {destination: {host: b, subset: v2}, "
     "weight: 10}], timeout: 1.5s, retries: {attempts: 3, perTryTimeout: 500ms, retryOn: "
     "'5xx,reset, 409'}, fault: {delay: {percentage: {value: 0.1}, fixedDelay: 2s}, abort: "
     "{httpStatus: 503}}, rewrite: {uri: /y}}], tcp: [{match: [{port: 3306}], route: "
     "[{destination: {host: b}}]}]}",
     ""},
    {"empty", "{}", "invalid spec: must hold http, tls or tcp routes"},
    {"delegate", "{http: [{match: [{uri: {regex: a}}], " ROUTE "}]}", ""},
    {"delegate with tcp", "{tcp: [{" ROUTE "}]}", "invalid spec: without hosts this is a delegate"},
    {"nested delegate", "{http: [{delegate: {name: x}}]}",
     "invalid spec.http[0].delegate: a delegate must not delegate on"},
    {"root", ONE("match: [{uri: {prefix: /x}, headers: {a: {exact: b}}}], delegate: {name: x, "
                 "namespace: y}"),
     ""},
    {"root with regex", ONE("match: [{headers: {a: {regex: b}}}], delegate: {name: x}"),
     "invalid spec.http[0].match[0]: must not use regex"},
    {"root with route", ONE(ROUTE ", delegate: {name: x}"),
     "invalid spec.http[0].delegate: excludes route"},
    {"sni routes", "{hosts: ['*.b'], tls: [{match: [{sniHosts: [a.b, '*.c.b'], port: 443, "
                   "destinationSubnets: [10.0.0.0/8], sourceLabels: {a: b}}], " ROUTE "}]}",
     ""},
    {"source subnet", "{hosts: [a], tcp: [{match: [{sourceSubnet: 1.2.3}], " ROUTE "}]}",
     "invalid spec.tcp[0].match[0].sourceSubnet"},
    {"no hosts at a gateway", "{gateways: [g], http: [{" ROUTE "}]}",
     "invalid spec.hosts: must list at least one host"},
    {"no routes", "{hosts: [a]}", "invalid spec: must hold http, tls or tcp routes"},
    {"all of the mesh", "{hosts: ['*'], http: [{" ROUTE "}]}",
     "invalid spec.hosts[0]: \"*\" would take all traffic"},
    {"all at a gateway", "{hosts: ['*'], gateways: [g], http: [{" ROUTE "}]}",
     ""},
    {"host twice", "{hosts: [a, A], http: [{" ROUTE "}]}",
     "invalid spec.hosts[1]: \"a\" is listed twice"},
    {"bad host", "{hosts: ['a b'], http: [{" ROUTE "}]}",
     "invalid spec.hosts[0]: must be a host name"},
    {"wrong kind", "{hosts: a}", "invalid spec.hosts: must be a list, is a string"},
    {"weights of nought",
     ONE("route: [{destination: {host: b}, weight: 0}, {destination: "
         "{host: c}}]"),
     "invalid spec.http[0].route: the weights add up to 0"},
    {"negative weight", ONE("route: [{destination: {host: b}, weight: -1}]"),
     "invalid spec.http[0].route[0].weight: must be 0..2147483647, is -1"},
    {"wildcard destination", ONE("route: [{destination: {host: '*.b'}}]"),
     "invalid spec.http[0].route[0].destination.host: must be one host"},
    {"no destination", ONE("route: [{weight: 1}]"),
     "invalid spec.http[0].route[0].destination.host: must name a host"},
    {"no action", ONE("name: x"), "invalid spec.http[0]: must hold route, redirect"},
    {"redirect and route", ONE(ROUTE ", redirect: {uri: /x}"),
     "invalid spec.http[0].redirect: excludes route"},
    {"redirect to itself", ONE("redirect: {}"), "invalid spec.http[0].redirect: would lead back"},
    {"redirect code", ONE("redirect: {uri: /x, redirectCode: 200}"),
     "invalid spec.http[0].redirect.redirectCode: must be 301"},
    {"good redirect",
     ONE("redirect: {uri: /x, redirectCode: 308, derivePort: "
         "FROM_REQUEST_PORT}"),
     ""},
    {"direct status", ONE("directResponse: {status: 199}"),
     "invalid spec.http[0].directResponse.status: must be 200..599"},
    {"direct body", ONE("directResponse: {status: 200, body: {bytes: 'aGk='}}"), ""},
    {"direct body broken", ONE("directResponse: {status: 200, body: {bytes: '!'}}"),
     "invalid spec.http[0].directResponse.body.bytes: must be base64"},
    {"two kinds of match", ONE("match: [{uri: {exact: /a, prefix: /b}}], " ROUTE),
     "invalid spec.http[0].match[0].uri: has more than one"},
    {"header name", ONE("match: [{headers: {'a b': {exact: x}}}], " ROUTE),
     "is no name of a header field"},
    {"retries off", ONE(ROUTE ", retries: {attempts: 0}"), ""},
    {"retries off with conditions", ONE(ROUTE ", retries: {attempts: 0, retryOn: 5xx}"),
     "invalid spec.http[0].retries: attempts is 0"},
    {"retry condition", ONE(ROUTE ", retries: {attempts: 1, retryOn: sometimes}"),
     "invalid spec.http[0].retries.retryOn: \"sometimes\""},
    {"duration", ONE(ROUTE ", timeout: 1 day"), "invalid spec.http[0].timeout: must be a duration"},
    {"timeout of nought means none", ONE(ROUTE ", timeout: 0s"), ""},
    {"timeout too short", ONE(ROUTE ", timeout: 1us"), "invalid spec.http[0].timeout: must be at"},
    {"fault without any", ONE(ROUTE ", fault: {}"), "invalid spec.http[0].fault: must hold delay"},
    {"fault status", ONE(ROUTE ", fault: {abort: {httpStatus: 99}}"),
     "invalid spec.http[0].fault.abort.httpStatus: must be 200..599"},
    {"fault share", ONE(ROUTE ", fault: {delay: {fixedDelay: 1s, percentage: {value: 101}}}"),
     "invalid spec.http[0].fault.delay.percentage: must be 0..100"},
    {"old percent", ONE(ROUTE ", fault: {delay: {fixedDelay: 1s, percent: 5}}"),
     "deprecated spec.http[0].fault.delay.percent: is an old spelling"},
    {"grpc status", ONE(ROUTE ", fault: {abort: {grpcStatus: NOPE}}"), "\"NOPE\" is no gRPC"},
    {"grpc status by name", ONE(ROUTE ", fault: {abort: {grpcStatus: UNAVAILABLE}}"), ""},
    {"grpc status by number", ONE(ROUTE ", fault: {abort: {grpcStatus: '14'}}"), ""},
    {"cors",
     ONE(ROUTE ", corsPolicy: {allowOrigins: [{exact: 'https://a'}, {prefix: b}, {regex: '.*'}], "
               "allowMethods: [GET, '*'], allowHeaders: [x-a, '*'], exposeHeaders: [y], maxAge: "
               "24h, allowCredentials: true, unmatchedPreflights: IGNORE}"),
     ""},
    {"cors for nobody", ONE(ROUTE ", corsPolicy: {allowMethods: [GET]}"),
     "suspect spec.http[0].corsPolicy: names no origin"},
    {"old origin", ONE(ROUTE ", corsPolicy: {allowOrigin: ['*']}"),
     "deprecated spec.http[0].corsPolicy.allowOrigin: is an old"},
    {"both origins", ONE(ROUTE ", corsPolicy: {allowOrigin: [x], allowOrigins: [{exact: y}]}"),
     "ineffective spec.http[0].corsPolicy.allowOrigin: has no effect"},
    {"cors age", ONE(ROUTE ", corsPolicy: {allowOrigins: [{exact: y}], maxAge: 1500ms}"),
     "invalid spec.http[0].corsPolicy.maxAge: must be whole seconds"},
    {"cors method", ONE(ROUTE ", corsPolicy: {allowOrigins: [{exact: y}], allowMethods: ['a b']}"),
     "invalid spec.http[0].corsPolicy.allowMethods[0]: \"a b\" is no method"},
    {"cors header", ONE(ROUTE ", corsPolicy: {allowOrigins: [{exact: y}], exposeHeaders: ['a b']}"),
     "invalid spec.http[0].corsPolicy.exposeHeaders[0]"},
    {"cors regex", ONE(ROUTE ", corsPolicy: {allowOrigins: [{regex: '('}]}"),
     "regex spec.http[0].corsPolicy.allowOrigins[0].regex"},
    {"unreachable", "{hosts: [a], http: [{" ROUTE "}, {match: [{uri: {prefix: /x}}], " ROUTE "}]}",
     "unreachable spec.http[1]: http[0] takes every request"},
    {"prefix of all", "{hosts: [a], http: [{match: [{uri: {prefix: /}}], " ROUTE "}, {" ROUTE "}]}",
     "unreachable spec.http[1]"},
    {"prefix of all on one port",
     "{hosts: [a], http: [{match: [{uri: {prefix: /}, port: 80}], " ROUTE "}, {" ROUTE "}]}", ""},
    {"mirror", ONE(ROUTE ", mirror: {host: c, subset: v2}, mirrorPercentage: {value: 0.5}"), ""},
    {"mirrors",
     ONE(ROUTE ", mirrors: [{destination: {host: c}, percentage: {value: 50}}, {destination: {host: "
               "d}}]"),
     ""},
    {"mirror twice", ONE(ROUTE ", mirror: {host: c}, mirrors: [{destination: {host: d}}]"),
     "invalid spec.http[0].mirrors: excludes mirror"},
    {"mirror share", ONE(ROUTE ", mirror: {host: c}, mirrorPercentage: {value: 101}"),
     "invalid spec.http[0].mirrorPercentage: must be 0..100"},
    {"mirror to nowhere", ONE(ROUTE ", mirrors: [{percentage: {value: 5}}]"),
     "invalid spec.http[0].mirrors[0].destination.host: must name a host"},
    {"unknown field", ONE(ROUTE ", tiemout: 1s"), "suspect spec.http[0].tiemout: is no field"},
    {"unset fields are not reported", ONE(ROUTE ", mirror: null, mirrors: [], delegate: null"), ""},
    {"sni outside of hosts",
     "{hosts: [a.b], tls: [{match: [{sniHosts: [c.d]}], route: [{destination: {host: b}}]}]}",
     "invalid spec.tls[0].match[0].sniHosts[0]: \"c.d\" is none of this object's hosts"},
    {"tcp without route", "{hosts: [a], tcp: [{match: [{port: 1}]}]}",
     "invalid spec.tcp[0].route: must list"},
    {"port too large", ONE("route: [{destination: {host: b, port: {number: 70000}}}]"),
     "invalid spec.http[0].route[0].destination.port.number: must be 0..65535, is 70000"},
    {"export", "{hosts: [a], http: [{" ROUTE "}], exportTo: ['*', b]}",
     "invalid spec.exportTo[0]: \"*\" must stand alone"},
    {"no regex", ONE("match: [{uri: {regex: '(a'}}], " ROUTE),
     "regex spec.http[0].match[0].uri.regex: \"(a\""},
    {"no such group", ONE(ROUTE ", rewrite: {uriRegexRewrite: {match: a, rewrite: '\\1'}}"),
     "invalid spec.http[0].rewrite.uriRegexRewrite.rewrite"},
    {"rewrite twice", ONE(ROUTE ", rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}"),
     "invalid spec.http[0].rewrite: has both"},
};

START_TEST(validate)
{
    check_one(API_VIRTUAL_SERVICE, &cases[_i]);
}
END_TEST

static struct vs *decode(struct arena *a, struct findings *f, const char *spec)
{
    json_t *obj = object_of("VirtualService", spec);
    struct vs *vs = NULL;

    findings_init(f, a);
    ck_assert_int_eq(vs_decode(obj, a, &vs, f), 0);
    json_decref(obj);
    return vs;
}

START_TEST(fields)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct vs *vs = decode(
        &a, &f,
        "{hosts: [A.Example.Com], http: [{match: [{headers: {X-B: {exact: '1'}, a: {}}}], mirror: "
        "{host: M}, mirrorPercent: 7, mirrors: [{destination: {host: n}, percentage: {value: 3}}], "
        "route: [{destination: {host: B, port: {number: 8080}}, weight: 5}], fault: {abort: "
        "{grpcStatus: UNAVAILABLE}}, corsPolicy: {allowOrigin: [x], allowOrigins: [{prefix: y}]}, "
        "directResponse: {status: 200, body: {bytes: 'aGk='}}, redirect: {uri: /r}}]}");
    struct vs_http *h = &vs->http[0];

    ck_assert(vs->mesh);
    ck_assert(slice_is(vs->hosts.p[0], "a.example.com"));
    ck_assert_uint_eq(h->match[0].headers.n, 2);
    ck_assert(slice_is(h->match[0].headers.p[0].name, "a"));
    ck_assert_int_eq(h->match[0].headers.p[0].match.kind, API_MATCH_PRESENT);
    ck_assert(slice_is(h->match[0].headers.p[1].name, "x-b"));
    ck_assert_int_eq(h->match[0].headers.p[1].match.kind, API_MATCH_EXACT);
    ck_assert_int_eq(h->match[0].uri.kind, API_MATCH_UNSET);
    ck_assert(slice_is(h->route.p[0].destination.host, "b"));
    ck_assert_uint_eq(h->route.p[0].destination.port, 8080);
    ck_assert(h->route.p[0].weight.set && h->route.p[0].weight.v == 5);
    ck_assert_uint_eq(h->n_mirrors, 2);
    ck_assert(slice_is(h->mirrors[0].destination.host, "m"));
    ck_assert(h->mirrors[0].percentage > 6.99 && h->mirrors[0].percentage < 7.01);
    ck_assert(h->mirrors[1].percentage > 2.99 && h->mirrors[1].percentage < 3.01);
    ck_assert_int_eq(h->fault->abort.grpc_code, 14);
    ck_assert(h->fault->abort.percentage > 99.9);
    ck_assert_uint_eq(h->cors->n_allow_origins, 1);
    ck_assert_int_eq(h->cors->allow_origins[0].kind, API_MATCH_PREFIX);
    ck_assert(slice_is(h->direct_response->body, "hi"));
    ck_assert_uint_eq(h->redirect->code, 301);
    ck_assert(findings_has_kind(&f, FINDING_DEPRECATED));
    arena_fini(&a);
}
END_TEST

START_TEST(broken_elements_keep_their_place)
{
    struct arena a = ARENA_INIT;
    struct findings f;
    struct vs *vs = decode(&a, &f, "{hosts: [1, b], http: [x, {name: second}]}");

    ck_assert_uint_eq(vs->hosts.n, 2);
    ck_assert(slice_is(vs->hosts.p[1], "b"));
    ck_assert_uint_eq(vs->n_http, 2);
    ck_assert(slice_is(vs->http[1].name, "second"));
    ck_assert_uint_eq(f.n, 2);
    arena_fini(&a);
}
END_TEST

START_TEST(out_of_memory)
{
    json_t *obj = object_of("VirtualService", cases[1].spec);

    OOM_SWEEP (n) {
        struct arena a = ARENA_INIT;
        struct findings f;

        findings_init(&f, &a);
        if (api_check(API_VIRTUAL_SERVICE, obj, &a, &f) == 0 && !mem_fail_hit())
            ck_assert(!findings_has(&f, FINDING_ERROR));
        arena_fini(&a);
    }
    json_decref(obj);
}
END_TEST

START_TEST(arena_cap)
{
    struct arena a;
    struct vs *vs;
    json_t *obj = object_of("VirtualService", cases[1].spec);

    arena_init(&a, 256, 1024);
    ck_assert_int_eq(vs_decode(obj, &a, &vs, NULL), -1);
    arena_fini(&a);
    json_decref(obj);
}
END_TEST

START_TEST(no_object)
{
    static const char *const texts[] = {"[]", "{}", "{metadata: {}}", "{metadata: {name: ''}}",
                                        "{metadata: 1}"};

    for (size_t i = 0; i < N_OF(texts); i++) {
        struct arena a = ARENA_INIT;
        struct vs *vs = NULL;
        json_t *obj = object_of(NULL, texts[i]);

        ck_assert_msg(vs_decode(obj, &a, &vs, NULL) == -1 && !vs, "%s", texts[i]);
        arena_fini(&a);
        json_decref(obj);
    }
}
END_TEST

TESTS(vs)
{
    tcase_add_loop_test(tc, validate, 0, N_OF(cases));
    tcase_add_test(tc, fields);
    tcase_add_test(tc, broken_elements_keep_their_place);
    tcase_add_test(tc, out_of_memory);
    tcase_add_test(tc, arena_cap);
    tcase_add_test(tc, no_object);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tls/tls.h"
#include "tests/unit/tcase.h"

/* A ClientHello put together from parts; each row says what is odd about it. */
struct part {
    const char *p;
    size_t len;
};
#define P(lit)                                                                                     \
    {                                                                                              \
        lit, sizeof(lit) - 1                                                                       \
    }
#define SNI(name_len, list_len, ext_len, name)                                                     \
    "\x00\x00\x00" ext_len "\x00" list_len "\x00\x00" name_len name
#define ALPN(list_len, ext_len, list) "\x00\x10\x00" ext_len "\x00" list_len list

static const struct {
    const char *name;
    struct part ext; /* extensions */
    enum err_code want;
    const char *sni, *alpn;
} hellos[] = {
    {"none", P(""), ERR_OK, NULL, NULL},
    {"sni", P(SNI("\x04", "\x07", "\x09", "cart")), ERR_OK, "cart", NULL},
    {"both", P(SNI("\x04", "\x07", "\x09", "cart") ALPN("\x03", "\x05", "\x02h2")), ERR_OK, "cart",
     "\x02h2"},
    {"unknown before", P("\x12\x34\x00\x03xyz" ALPN("\x0c", "\x0e", "\x02h2\x08http/1.1")), ERR_OK,
     NULL, "\x02h2\x08http/1.1"},
    {"empty host name", P(SNI("\x00", "\x03", "\x05", "")), ERR_INVALID, NULL, NULL},
    {"list longer than its name", P(SNI("\x03", "\x07", "\x09", "cart")), ERR_INVALID, NULL, NULL},
    {"extension longer than the list", P(SNI("\x04", "\x07", "\x0a", "cartx")), ERR_INVALID, NULL,
     NULL},
    {"blank in the name", P(SNI("\x04", "\x07", "\x09", "ca t")), ERR_INVALID, NULL, NULL},
    {"NUL in the name", P(SNI("\x04", "\x07", "\x09", "ca\0t")), ERR_INVALID, NULL, NULL},
    {"twice", P(SNI("\x04", "\x07", "\x09", "cart") SNI("\x04", "\x07", "\x09", "evil")),
     ERR_INVALID, NULL, NULL},
    {"empty protocol", P(ALPN("\x01", "\x03", "\x00")), ERR_INVALID, NULL, NULL},
    {"empty protocol list", P(ALPN("\x00", "\x02", "")), ERR_INVALID, NULL, NULL},
    {"protocol beyond the list", P(ALPN("\x03", "\x05", "\x03h2")), ERR_INVALID, NULL, NULL},
    {"extension beyond the end", P("\x12\x34\x00\x09xyz"), ERR_INVALID, NULL, NULL},
    {"half an extension", P("\x12\x34\x00"), ERR_INVALID, NULL, NULL},
};

/* In records of at most `chunk` handshake bytes. Returns the length. */
static size_t hello(struct part ext, size_t chunk, unsigned char *out)
{
    unsigned char msg[2048];
    size_t n = 4, at = 0;

    msg[n++] = 3, msg[n++] = 3;
    memset(msg + n, 'r', 32), n += 32;
    msg[n++] = 0; /* session id */
    memcpy(msg + n, "\x00\x02\x13\x01\x01\x00", 6), n += 6;
    msg[n++] = (unsigned char)(ext.len >> 8), msg[n++] = (unsigned char)ext.len;
    memcpy(msg + n, ext.p, ext.len), n += ext.len;
    msg[0] = 1, msg[1] = 0, msg[2] = (unsigned char)((n - 4) >> 8), msg[3] = (unsigned char)(n - 4);
    for (size_t off = 0; off < n; off += chunk) {
        size_t part = MIN(chunk, n - off);

        memcpy(out + at, "\x16\x03\x01", 3);
        out[at + 3] = (unsigned char)(part >> 8), out[at + 4] = (unsigned char)part;
        memcpy(out + at + 5, msg + off, part);
        at += 5 + part;
    }
    return at;
}

START_TEST(client_hello)
{
    unsigned char bytes[16384];

    for (size_t chunk = 1; chunk < 150; chunk++) {
        size_t len = hello(hellos[_i].ext, chunk, bytes);
        struct tls_hello h;

        for (size_t cut = 0; cut <= len; cut++) {
            enum err_code rc = tls_hello_parse(slice_of(bytes, cut), &h);

            if (rc == ERR_AGAIN && cut < len)
                continue;
            ck_assert_msg(rc == hellos[_i].want, "%s in %zu: %d at %zu", hellos[_i].name, chunk, rc,
                          cut);
            if (rc == ERR_OK) {
                ck_assert_uint_eq(cut, len);
                ck_assert_msg(slice_is(h.sni, hellos[_i].sni), "%s", hellos[_i].name);
                ck_assert_msg(slice_is(h.alpn, hellos[_i].alpn), "%s", hellos[_i].name);
            }
        }
    }
}
END_TEST

static const struct {
    const char *name;
    struct part bytes;
    enum err_code want;
} starts[] = {
    {"nothing", P(""), ERR_AGAIN},
    {"HTTP", P("GET / HTTP/1.1\r\n"), ERR_INVALID},
    {"one byte of TLS", P("\x16"), ERR_AGAIN},
    {"SSL 2", P("\x80\x2e\x01\x03\x01"), ERR_INVALID},
    {"another version", P("\x16\x02"), ERR_INVALID},
    {"alert", P("\x15\x03\x01\x00\x02\x02\x28"), ERR_INVALID},
    {"empty record", P("\x16\x03\x01\x00\x00"), ERR_INVALID},
    {"record too long", P("\x16\x03\x01\x40\x01"), ERR_INVALID},
    {"server hello", P("\x16\x03\x03\x00\x30\x02"), ERR_INVALID},
    {"message too long", P("\x16\x03\x01\x40\x00\x01\x00\x40\x01"), ERR_LIMIT},
    {"message too short", P("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03"), ERR_INVALID},
};

START_TEST(first_bytes)
{
    struct tls_hello h;

    ck_assert_msg(tls_hello_parse(slice_of(starts[_i].bytes.p, starts[_i].bytes.len), &h) ==
                      starts[_i].want,
                  "%s", starts[_i].name);
    ck_assert(h.sni.p == NULL);
}
END_TEST

TESTS(hello)
{
    tcase_add_loop_test(tc, client_hello, 0, N_OF(hellos));
    tcase_add_loop_test(tc, first_bytes, 0, N_OF(starts));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that TLS does, with OpenSSL cut down to what it needs. */
#define TLS_TEST_LEAN
#include "tests/unit/lib/tls/test_tls.c"

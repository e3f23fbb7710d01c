/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/tls/tls_int.h"

void tls_slim(SSL *ssl)
{
    (void)ssl;
}

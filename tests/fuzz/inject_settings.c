/* SPDX-License-Identifier: Apache-2.0 */
/* module: mesh/inject */
/* Settings of the injector: what is accepted once must not refuse any plain pod afterwards. */
#include <stdlib.h>

#include "lib/base/cleanup.h"
#include "lib/data/json.h"
#include "mesh/inject/inject.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char pods[] =
        "{\"metadata\":{\"labels\":{\"app\":\"web\"}},\"spec\":{\"containers\":"
        "[{\"name\":\"web\",\"image\":\"web:1\"}]}}";
    CLEANUP(inject_settings_freep) struct inject_settings *s = NULL;
    CLEANUP(json_freep) json_t *pod = NULL;
    struct inject_result out;
    struct err err = {0};

    json_setup();
    if (inject_settings_decode(slice_of(p, n), &s, &err) < 0) {
        if (!err.msg[0])
            abort();
        return 0;
    }
    if (json_parse(slice_str(pods), NULL, &pod, &err) < 0)
        abort();
    struct inject_request r = {.pod = pod, .ns = "shop", .path = INJECT_NAMESPACE};
    if (inject_pod(s, &r, &out, &err) < 0)
        abort();
    inject_result_fini(&out);
    return 0;
}

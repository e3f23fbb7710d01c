/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh/inject/settings.h"

#include <string.h>

#include "lib/data/quantity.h"
#include "mesh/inject/inject_int.h"

static int read_STR(const json_t *obj, const char *name, const char **ret, struct err *err)
{
    const json_t *v = json_object_get(obj, name);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_string(v))
        return err_set(err, ERR_INVALID, "%s: must be a string, is %s", name, json_kind(v));
    *ret = json_string_value(v);
    return 0;
}

static int read_BOOL(const json_t *obj, const char *name, bool *ret, struct err *err)
{
    const json_t *v = json_object_get(obj, name);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_boolean(v))
        return err_set(err, ERR_INVALID, "%s: must be true or false, is %s", name, json_kind(v));
    *ret = json_is_true(v);
    return 0;
}

static int read_ARR(const json_t *obj, const char *name, const json_t **ret, struct err *err)
{
    const json_t *v = json_object_get(obj, name);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_array(v))
        return err_set(err, ERR_INVALID, "%s: must be an array, is %s", name, json_kind(v));
    *ret = v;
    return 0;
}

static int read_LIST(const json_t *obj, const char *name, const json_t **ret, struct err *err)
{
    size_t i;
    const json_t *v;
    if (read_ARR(obj, name, ret, err) < 0)
        return -1;
    json_array_foreach(*ret, i, v) if (!json_is_string(v)) return err_set(
        err, ERR_INVALID, "%s[%zu]: must be a string, is %s", name, i, json_kind(v));
    return 0;
}

static int read_OBJ(const json_t *obj, const char *name, const json_t **ret, struct err *err)
{
    const json_t *v = json_object_get(obj, name);
    if (!v || json_is_null(v))
        return 0;
    if (!json_is_object(v))
        return err_set(err, ERR_INVALID, "%s: must be an object, is %s", name, json_kind(v));
    *ret = v;
    return 0;
}

/* What goes into every pod is checked once, here. */
static int values_check(const struct inject_settings *s, struct err *err)
{
    const struct {
        const char *name, *value;
    } quantities[] = {
        {"cpuRequest", s->cpu_request},
        {"memoryRequest", s->memory_request},
        {"cpuLimit", s->cpu_limit},
        {"memoryLimit", s->memory_limit},
    };
    struct redirect_ports ports;
    struct redirect_ranges ranges;
    struct redirect_ifaces ifaces;
    int64_t milli;

    if (!s->image[0])
        return err_set(err, ERR_INVALID, "image: must not be empty");
    for (size_t i = 0; i < N_OF(quantities); i++)
        if (quantities[i].value[0] &&
            (quantity_parse(slice_str(quantities[i].value), &milli) != ERR_OK || milli < 0))
            return err_set(err, ERR_INVALID, "%s: '%.40s' is no quantity", quantities[i].name,
                           quantities[i].value);
    if (redirect_parse_ranges(slice_str(s->include_ranges), true, &ranges, err) < 0)
        return err_wrap(err, "includeOutboundIPRanges");
    if (redirect_parse_ranges(slice_str(s->exclude_ranges), false, &ranges, err) < 0)
        return err_wrap(err, "excludeOutboundIPRanges");
    if (redirect_parse_ports(slice_str(s->include_outbound), true, &ports, err) < 0)
        return err_wrap(err, "includeOutboundPorts");
    if (redirect_parse_ports(slice_str(s->exclude_outbound), false, &ports, err) < 0)
        return err_wrap(err, "excludeOutboundPorts");
    if (redirect_parse_ports(slice_str(s->include_inbound), true, &ports, err) < 0)
        return err_wrap(err, "includeInboundPorts");
    if (redirect_parse_ports(slice_str(s->exclude_inbound), false, &ports, err) < 0)
        return err_wrap(err, "excludeInboundPorts");
    if (redirect_parse_ifaces(slice_str(s->exclude_interfaces), &ifaces, err) < 0)
        return err_wrap(err, "excludeInterfaces");
    if (s->proxy_config && inject_proxy_config(NULL, s->proxy_config, NULL, err) < 0)
        return err_wrap(err, "proxyConfig");
    return 0;
}

int inject_settings_from_json(const json_t *obj, struct inject_settings **ret, struct err *err)
{
    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "settings must be an object, not %s", json_kind(obj));
    CLEANUP(inject_settings_freep) struct inject_settings *s = mem_zalloc(sizeof *s);
    if (!s || !(s->json = json_deep_copy(obj)))
        return err_set(err, ERR_NOMEM, "settings");
#define X(kind, member, name, dflt)                                                                \
    s->member = dflt;                                                                              \
    if (read_##kind(s->json, name, &s->member, err) < 0)                                           \
        return -1;
    INJECT_SETTINGS(X)
#undef X
    if (values_check(s, err) < 0)
        return -1;
    *ret = TAKE(s);
    return 0;
}

int inject_settings_decode(struct slice text, struct inject_settings **ret, struct err *err)
{
    struct json_limits limits = {.depth = 32, .bytes = 1 << 20};
    CLEANUP(json_freep) json_t *obj = NULL;
    if (json_parse(text, &limits, &obj, err) < 0)
        return err_wrap(err, "settings");
    return inject_settings_from_json(obj, ret, err);
}

void inject_settings_free(struct inject_settings *s)
{
    if (!s)
        return;
    json_decref(s->json);
    mem_free(s);
}

void inject_settings_freep(struct inject_settings **s)
{
    inject_settings_free(*s);
    *s = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "mesh/inject/inject_int.h"

const char *jstr(const json_t *obj, const char *key)
{
    return json_string_value(json_object_get(obj, key));
}

json_t *jobj(const json_t *obj, const char *key)
{
    json_t *v = json_object_get(obj, key);
    return json_is_object(v) ? v : NULL;
}

json_t *jarr(const json_t *obj, const char *key)
{
    json_t *v = json_object_get(obj, key);
    return json_is_array(v) ? v : NULL;
}

bool jhas(const json_t *list, const char *text)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v) if (json_is_string(v) &&
                                       strcmp(json_string_value(v), text) == 0) return true;
    return false;
}

json_t *jnamed(const json_t *list, const char *name, size_t *ret_i)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        const char *have = jstr(v, "name");
        if (have && strcmp(have, name) == 0) {
            if (ret_i)
                *ret_i = i;
            return v;
        }
    }
    return NULL;
}

void jput(struct inject *in, json_t *obj, const char *key, json_t *value)
{
    if (json_object_set_new(obj, key, value) < 0)
        in->oom = true;
}

void jputs(struct inject *in, json_t *obj, const char *key, const char *text)
{
    /* Texts that were cut to a length may end within a character. */
    jput(in, obj, key, text ? json_string_of(slice_str(text)) : NULL);
}

void jadd(struct inject *in, json_t *list, json_t *value)
{
    if (json_array_append_new(list, value) < 0)
        in->oom = true;
}

void jinsert(struct inject *in, json_t *list, size_t at, json_t *value)
{
    if (json_array_insert_new(list, at, value) < 0)
        in->oom = true;
}

json_t *jtext(const json_t *value)
{
    CLEANUP(mem_freep) char *text = json_text(value, JSON_TIGHT);
    return text ? json_string(text) : NULL;
}

json_t *jread(const char *text)
{
    struct json_limits limits = {.depth = 32, .bytes = 1 << 20};
    json_t *v = NULL;
    if (!text || json_parse(slice_str(text), &limits, &v, NULL) < 0)
        return NULL;
    return v;
}

void inject_warn(struct inject *in, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    jadd(in, in->warnings,
         json_string_of(slice_str(text))); /* cutting may have split a character */
}

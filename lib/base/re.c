/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/base/re.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/re2/shim.h"

#define LIBRARY "tulle-re2.so"

struct re {
    void *handle; /* of the shim */
};

static struct {
    pthread_once_t once;
    __typeof__(tulle_re2_compile_v1) *compile;
    __typeof__(tulle_re2_free_v1) *free;
    __typeof__(tulle_re2_full_match_v1) *full_match;
    __typeof__(tulle_re2_check_v1) *check;
    __typeof__(tulle_re2_replace_v1) *replace;
    bool loaded;
    char why[160]; /* not loaded: the last reason */
} shim = {.once = PTHREAD_ONCE_INIT};

static bool symbol(void *lib, const char *name, void *ret_fn)
{
    void *p = dlsym(lib, name);

    memcpy(ret_fn, &p, sizeof p);
    return p != NULL;
}

static bool try_load(const char *path)
{
    void *lib;

    if (access(path, F_OK) < 0)
        return false;
    lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        snprintf(shim.why, sizeof shim.why, "%s", dlerror());
        return false;
    }
    if (symbol(lib, "tulle_re2_compile_v1", &shim.compile) &&
        symbol(lib, "tulle_re2_free_v1", &shim.free) &&
        symbol(lib, "tulle_re2_full_match_v1", &shim.full_match) &&
        symbol(lib, "tulle_re2_check_v1", &shim.check) &&
        symbol(lib, "tulle_re2_replace_v1", &shim.replace))
        return true;
    snprintf(shim.why, sizeof shim.why, "%s is of another version", path);
    dlclose(lib);
    return false;
}

static bool try_folder(const char *dir, const char *below)
{
    char path[4096];
    int n = snprintf(path, sizeof path, "%s%s/" LIBRARY, dir, below);

    return n > 0 && (size_t)n < sizeof path && try_load(path);
}

/* Beside the executable, and in ../lib/tulle of it (an installation below any prefix). */
static bool try_beside(void)
{
    char exe[3072];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *end;

    if (n <= 0)
        return false;
    exe[n] = '\0';
    end = strrchr(exe, '/');
    if (!end)
        return false;
    *end = '\0';
    return try_folder(exe, "") || try_folder(exe, "/../lib/tulle");
}

static void load(void)
{
    const char *dir = getenv("TULLE_LIBDIR");

    snprintf(shim.why, sizeof shim.why,
             "not in $TULLE_LIBDIR, beside the executable, /usr/local/lib/tulle, /usr/lib/tulle");
    shim.loaded = (dir && *dir && try_folder(dir, "")) || try_beside() ||
                  try_folder("/usr/local/lib/tulle", "") || try_folder("/usr/lib/tulle", "");
}

int re_compile(struct slice pattern, struct re **ret, struct err *err)
{
    char why[128] = "";
    struct re *re;

    if (pattern.len > RE_MAX_PATTERN)
        return err_set(err, ERR_LIMIT, "regular expression of %zu bytes, at most %u are allowed",
                       pattern.len, RE_MAX_PATTERN);
    pthread_once(&shim.once, load);
    if (!shim.loaded)
        return err_set(err, ERR_UNAVAILABLE, "regular expressions need " LIBRARY ": %s", shim.why);
    re = mem_zalloc(sizeof *re);
    if (!re)
        return err_set(err, ERR_NOMEM, "regular expression");
    re->handle = shim.compile(pattern.p ? pattern.p : "", pattern.len, why, sizeof why);
    if (!re->handle) {
        mem_free(re);
        return err_set(err, ERR_INVALID, "regular expression \"%.*s\": %s",
                       (int)MIN(pattern.len, (size_t)64), pattern.p ? pattern.p : "", why);
    }
    *ret = re;
    return 0;
}

void re_free(struct re *re)
{
    if (!re)
        return;
    shim.free(re->handle);
    mem_free(re);
}

bool re_full_match(const struct re *re, struct slice text)
{
    return shim.full_match(re->handle, text.p ? text.p : "", text.len);
}

int re_check_substitution(const struct re *re, struct slice substitution, struct err *err)
{
    char why[128] = "";

    if (shim.check(re->handle, substitution.p ? substitution.p : "", substitution.len, why,
                   sizeof why))
        return 0;
    return err_set(err, ERR_INVALID, "substitution \"%.*s\": %s",
                   (int)MIN(substitution.len, (size_t)64), substitution.p ? substitution.p : "",
                   why);
}

static void sink(void *arg, const char *p, size_t n)
{
    buf_add(arg, p, n);
}

enum err_code re_replace(const struct re *re, struct slice text, struct slice substitution,
                         struct buf *out)
{
    if (re_check_substitution(re, substitution, NULL) < 0)
        return ERR_INVALID;
    shim.replace(re->handle, text.p ? text.p : "", text.len,
                 substitution.p ? substitution.p : "", substitution.len, sink, out);
    return buf_err(out);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Replays a fuzz target's corpus without a fuzzing engine, with any compiler: each file of the
 * folders (or files) given is one input. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return -1;
    }
    size_t cap = 1 << 20, n = 0;
    uint8_t *p = malloc(cap);
    if (p)
        n = fread(p, 1, cap, f);
    fclose(f);
    /* An exact-size copy, so that a sanitizer sees a read past the end. */
    uint8_t *q = malloc(n ? n : 1);
    if (!p || !q) {
        free(p);
        free(q);
        return -1;
    }
    memcpy(q, p, n);
    free(p);
    LLVMFuzzerTestOneInput(q, n);
    free(q);
    return 0;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) == 0 && !S_ISDIR(st.st_mode)) {
            if (replay_file(argv[i]) < 0)
                return 1;
            count++;
            continue;
        }
        struct dirent **list;
        int n = scandir(argv[i], &list, NULL, alphasort);
        if (n < 0) {
            perror(argv[i]);
            return 1;
        }
        for (int k = 0; k < n; k++) {
            char path[4096];
            snprintf(path, sizeof path, "%s/%s", argv[i], list[k]->d_name);
            bool skip = list[k]->d_name[0] == '.';
            free(list[k]);
            if (!skip) {
                if (replay_file(path) < 0)
                    return 1;
                count++;
            }
        }
        free(list);
    }
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}

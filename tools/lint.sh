#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy (checks in .clang-tidy), cppcheck and shellcheck over the tree.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
rc=0
export GEN=${GEN:-build/gen} # what the build generates
mapfile -t sh < <(git ls-files '*.sh' .ci/run)
# Severity warning: hints on style (SC2015, SC2317) are about how checks read here.
shellcheck -S warning -x -P SCRIPTDIR -P . -e SC1091 "${sh[@]}" || rc=1
# Headers of libraries are not read: their loops are told here.
cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
    --suppress=missingInclude --suppress=nullPointerArithmeticRedundantCheck \
    --suppress=internalAstError \
    '-Djson_array_foreach(array,index,value)=for (index = 0; (value = json_array_get(array, index)); index++)' \
    '-Djson_object_foreach(object,key,value)=for (void *it = 0; (key = next(object, &it)) && (value = at(it));)' \
    -I. lib mesh operator injector proxy cli || rc=1
mapfile -t c < <(git ls-files 'lib/*.c' 'mesh/*.c' 'operator/*.c' 'injector/*.c' 'proxy/*.c' 'cli/*.c')
# shellcheck disable=SC2016 # expanded by the inner shell
printf '%s\n' "${c[@]}" | xargs -P "$(nproc)" -n 8 sh -c 'clang-tidy --quiet --warnings-as-errors="*" \
    "$@" -- -std=gnu17 -D_GNU_SOURCE -I. -I$GEN -I$GEN/proto "-DTULLE_VERSION=\"0\"" 2>/dev/null' \
    tidy || rc=1
exit $rc

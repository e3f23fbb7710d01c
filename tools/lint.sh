#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# clang-tidy (checks in .clang-tidy), cppcheck and shellcheck over the tree.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
rc=0
mapfile -t sh < <(git ls-files '*.sh' .ci/run)
shellcheck -x -P SCRIPTDIR -P . -e SC1091 "${sh[@]}" || rc=1
cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
    --suppress=missingInclude --suppress=nullPointerArithmeticRedundantCheck -I. \
    lib mesh operator injector proxy cli || rc=1
mapfile -t c < <(git ls-files 'lib/*.c' 'mesh/*.c' 'operator/*.c' 'injector/*.c' 'proxy/*.c' 'cli/*.c')
printf '%s\n' "${c[@]}" | xargs -P "$(nproc)" -n 8 clang-tidy --quiet --warnings-as-errors='*' -- \
    -std=gnu17 -D_GNU_SOURCE -I. -Ibuild/gen -Ibuild/gen/proto -DTULLE_VERSION='"0"' 2>/dev/null || rc=1
exit $rc

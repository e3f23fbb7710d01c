#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `tulle analyze` as users run it: files, folders, standard input, thresholds, suppression.
# usage: run.sh BUILD_DIR
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
tulle=$1/bin/tulle
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
case_() { # NAME, EXIT CODE, WORDS that the output has ("" for any), command...
    local name=$1 code=$2 words=$3 got
    shift 3
    "$@" >"$work/out" 2>&1
    got=$?
    if [ "$got" -eq "$code" ] && grep -qF -- "$words" "$work/out"; then
        echo "PASS analyze: $name"
    else
        echo "FAIL analyze: $name (exit $got, want $code and \"$words\")"
        cat "$work/out"
        failures=$((failures + 1))
    fi
}
cd "$root" || exit 1
case_ "the examples have no errors" 0 "" "$tulle" analyze -f examples
case_ "and nothing but notes when the files are all there is" 0 "TUL0006" \
    "$tulle" analyze --complete -f examples/shop -f examples/seed
case_ "an error makes it fail" 1 "[IST0106] (Gateway default/g $work/bad.yaml:1) spec.servers: must hold" \
    bash -c "echo '{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g}, spec: {}}' >$work/bad.yaml; exec $tulle analyze -f $work/bad.yaml"
case_ "from a warning on, when asked" 1 "" "$tulle" analyze --failure-threshold warning -f examples/kinds/telemetry.yaml
case_ "standard input, and a namespace for objects without one" 1 "(Gateway team/g -:1)" \
    bash -c "$tulle analyze -n team -f - <$work/bad.yaml"
sed 's/{name: g}/{name: g, annotations: {galley.istio.io\/analyze-suppress: "IST0106, TUL0004, IST0133"}}/' \
    "$work/bad.yaml" >"$work/quiet.yaml"
case_ "findings that the object suppresses" 0 "No findings." "$tulle" analyze -f "$work/quiet.yaml"
case_ "objects see each other across files" 1 "takes mutual TLS alone (STRICT)" \
    "$tulle" analyze --complete -f tests/golden/analyze/mtls.yaml
case_ "what is not there is told of a whole cluster alone" 0 "" \
    bash -c "! $tulle analyze -f examples/kinds | grep IST0101 && $tulle analyze --complete -f examples/kinds | grep IST0101"
case_ "broken YAML names file and line" 1 "broken.yaml" \
    bash -c "printf 'a: [' >$work/broken.yaml; exec $tulle analyze -f $work/broken.yaml"
case_ "no file is a usage error" 2 "usage: tulle analyze" "$tulle" analyze
[ "$failures" -eq 0 ]

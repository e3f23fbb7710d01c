#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes what is derived from mesh/api/fields and the charts: CRDs, support table and page, and
# manifests/install.yaml. --check: fails when one of them is not up to date, and lints the charts.
set -euo pipefail
cd "$(dirname "$0")/.."

check=
[ "${1:-}" != --check ] || check=--check
tools/crds.py $check

# Helm of the machine, else the one that the test cluster builds (tests/cluster/build.sh helm).
if ! command -v helm >/dev/null; then
    tests/cluster/build.sh helm
    eval "$(tests/cluster/env.sh)"
fi
# The rendering must not depend on the cluster that the shell happens to speak to.
export KUBECONFIG=/dev/null

render() {
    cat <<-'HEAD'
	# SPDX-License-Identifier: Apache-2.0
	# Written by tools/manifests.sh from manifests/charts. The images are named tulle.local/...: put
	# the registry that holds yours in their place.
	#   kubectl apply --server-side -f install.yaml
	# To take it away and keep the custom resources with your objects in them:
	#   kubectl delete -f install.yaml -l app.kubernetes.io/component!=crds
	---
	apiVersion: v1
	kind: Namespace
	metadata:
	  name: tulle-system
	  labels:
	    app.kubernetes.io/name: tulle
	    app.kubernetes.io/part-of: tulle
	    app.kubernetes.io/component: namespace
	    pod-security.kubernetes.io/enforce: restricted
	HEAD
    helm template tulle-base manifests/charts/tulle-base --namespace tulle-system \
        --set crds.istio=always,crds.tulle=always --no-hooks
    # The operator makes Mesh itself: one apply cannot hold a kind and its first object.
    helm template tulle manifests/charts/tulle --namespace tulle-system --no-hooks \
        --set createMesh=false --kube-version 1.34.0
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
# Helm names itself as manager of what only kubectl will see.
render | sed 's/app.kubernetes.io\/managed-by: Helm/app.kubernetes.io\/managed-by: kubectl/' >"$out"
if [ -n "$check" ]; then
    helm lint --quiet manifests/charts/tulle-base manifests/charts/tulle
    cmp -s "$out" manifests/install.yaml || {
        echo "manifests/install.yaml differs from the charts, run tools/manifests.sh" >&2
        exit 1
    }
else
    cmp -s "$out" manifests/install.yaml || {
        cp "$out" manifests/install.yaml
        chmod 644 manifests/install.yaml
        echo "wrote manifests/install.yaml"
    }
fi

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writes what is derived from mesh/api/fields and the charts: CRDs, support table and page,
# manifests/install.yaml and manifests/profiles/. --check: fails when one of them is not up to date, and
# lints the charts.
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

# The operator makes Mesh itself when there is none; install.yaml holds none, because one apply cannot
# hold a kind and its first object.
chart() { # [FLAGS]
    helm template tulle manifests/charts/tulle --namespace tulle-system --no-hooks \
        --kube-version 1.34.0 --skip-tests "$@"
}
render_install() {
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
    helm template tulle-base manifests/charts/tulle-base --namespace tulle-system --no-hooks
    chart --set createMesh=false
}
render_profile() { # NAME
    cat <<-HEAD
	# SPDX-License-Identifier: Apache-2.0
	# Written by tools/manifests.sh from manifests/charts/tulle and its profiles/$1.yaml: the control
	# plane alone, for a cluster where the namespace and the custom resources of install.yaml are.
	HEAD
    chart -f "manifests/charts/tulle/profiles/$1.yaml"
}

stale=0
# keep FILE COMMAND...: the file holds what the command prints, or is made to.
keep() {
    local file=$1
    shift
    # Helm names itself as manager of what only kubectl will see.
    "$@" | sed 's/app.kubernetes.io\/managed-by: Helm/app.kubernetes.io\/managed-by: kubectl/' >"$out"
    ! cmp -s "$out" "$file" || return 0
    if [ -n "$check" ]; then
        echo "$file differs from the charts, run tools/manifests.sh" >&2
        stale=1
    else
        mkdir -p "$(dirname "$file")"
        cp "$out" "$file"
        chmod 644 "$file"
        echo "wrote $file"
    fi
}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
[ -z "$check" ] || helm lint --quiet manifests/charts/tulle-base manifests/charts/tulle manifests/charts/tulle-gateway
keep manifests/install.yaml render_install
for values in manifests/charts/tulle/profiles/*.yaml; do
    profile=$(basename "$values" .yaml)
    [ -z "$check" ] || helm lint --quiet -f "$values" manifests/charts/tulle
    keep "manifests/profiles/$profile.yaml" render_profile "$profile"
done
exit $stale

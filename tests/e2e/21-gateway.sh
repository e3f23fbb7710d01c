# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The chart tulle-gateway: https from outside, a certificate replaced under load, what status says.

need_shop || { fail "fixtures"; exit 1; }
no_policies
EDGE=tulle-e2e-edge
dir=$E2E_DIR/gateway
mkdir -p "$dir"

certificate() { # NAME: for shop.example.com
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=$1" \
        -addext "subjectAltName=DNS:shop.example.com" -keyout "$dir/$1.key" -out "$dir/$1.crt" 2>/dev/null
}
secret() { # NAME
    k create secret tls shop-cert -n "$EDGE" --cert "$dir/$1.crt" --key "$dir/$1.key" \
        --dry-run=client -o yaml | k apply -f - >/dev/null
}
gw() { # PATH [curl flags]: from the node to the pod
    local path=$1
    shift
    curl -sS --max-time 10 --cacert "$dir/all.crt" \
        --connect-to "shop.example.com:443:$ip:8443" --connect-to "shop.example.com:80:$ip:8080" \
        "$@" "$path"
}
status() { gw "$@" -o /dev/null -w '%{http_code}'; }
shown() { # whose certificate is shown
    gw https://shop.example.com/ -o /dev/null -v 2>&1 | sed -n 's/.*subject: O=//p'
}
load() { # requests on new connections until told to stop; failures to a file
    while [ ! -e "$dir/stop" ]; do
        [ "$(status https://shop.example.com/ 2>&1)" = 200 ] && echo ok || echo failed
    done >"$dir/load"
}

ns_make "$EDGE" || { fail "namespace"; exit 1; }
certificate one && certificate two && cat "$dir/one.crt" "$dir/two.crt" >"$dir/all.crt"
check "the chart is installed" helm upgrade --install istio-ingressgateway manifests/charts/tulle-gateway \
    -n "$EDGE" --set "global.hub=$TULLE_HUB,global.tag=$TULLE_TAG,service.type=ClusterIP"
check "a Gateway and a VirtualService of the examples" apply "$SHOP" examples/gateway/gateway.yaml
check "the gateway runs, without a certificate" rollout "$EDGE" istio-ingressgateway
ip=$(pod_ip "$EDGE" "$(pod_of "$EDGE" istio=ingressgateway)")
check "its status names the missing Secret" eventually 15 says "^False .*$EDGE/shop-cert" \
    condition "$SHOP" gw shop ResolvedRefs
secret one
same_status() { same "$(status https://shop.example.com/)" "$1"; }
check "with the Secret https is answered by the shop" eventually 15 same_status 200
check "plaintext is led to https" same "$(status http://shop.example.com/a)" 301
check "another host is not found" same "$(status https://shop.example.com/ -H 'Host: other.example.com')" 404
check "the first certificate is shown" same "$(shown)" one
rm -f "$dir/stop"
load &
loader=$!
sleep 1
secret two
is_shown() { same "$(shown)" "$1"; }
check "the second is shown soon after it was written" eventually 10 is_shown two
sleep 1
touch "$dir/stop"
wait "$loader"
check "no request failed meanwhile" not grep -n failed "$dir/load"
check "and there were many" between "$(grep -c ok "$dir/load")" 20 1000000
check "the Gateway has what it refers to" eventually 15 is_true "$SHOP" gw shop ResolvedRefs
check "and is acknowledged" eventually 15 programmed "$SHOP" gw shop
check "so is the VirtualService" eventually 15 programmed "$SHOP" vs shop
check "the gateway knows the pod behind by its certificate" says \
    'istio_requests_total.*reporter="source".*destination_principal="spiffe://[^"]+/ns/shop/sa/' \
    curl -s "http://$ip:15020/stats/prometheus"
unapply "$SHOP" examples/gateway/gateway.yaml >/dev/null 2>&1
helm uninstall istio-ingressgateway -n "$EDGE" >/dev/null 2>&1
ns_drop "$EDGE"

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# nginx with nginx.conf at ADDRESS, in the current folder. usage: nginx.sh ADDRESS
set -eu
mkdir -p www
i=0
while [ $i -lt 2000 ]; do echo "line $i of some text"; i=$((i + 1)); done >www/text
sed -e "s|\$ADDRESS|$1|" -e "s|\$DIR|$PWD|" "$INTEROP/apps/nginx.conf" >nginx.conf
chmod 755 . # workers may be somebody else
exec /usr/sbin/nginx -p "$PWD" -c "$PWD/nginx.conf"

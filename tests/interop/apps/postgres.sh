#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# PostgreSQL on PORT of 127.0.0.1 with a fresh database in the current folder; root lends it another user.
# usage: postgres.sh PORT
set -eu
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
mkdir data
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=db -days 2 \
    -keyout data.key -out data.crt 2>/dev/null
as=
if [ "$(id -u)" -eq 0 ]; then
    chmod 755 .
    chown -R nobody data data.key data.crt
    as="setpriv --reuid nobody --regid nogroup --clear-groups"
fi
chmod 700 data
$as "$bin/initdb" -D data -A trust -U tulle --no-sync >/dev/null
exec $as "$bin/postgres" -D data -p "$1" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
    -c ssl=on -c ssl_cert_file="$PWD/data.crt" -c ssl_key_file="$PWD/data.key"

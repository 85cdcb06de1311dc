#!/bin/bash
# healthcheck PORT PATH: succeeds when http://127.0.0.1:PORT/PATH answers 200. Bash alone: the image has no HTTP client. With
# SYSTOLE_TLS_CERT set it succeeds when somebody listens: that much can be seen without TLS.
set -euo pipefail
port=$1 path=$2
exec 3<>"/dev/tcp/127.0.0.1/$port"
[[ -z ${SYSTOLE_TLS_CERT:-} ]] || exit 0
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$path" >&3
read -r -t 3 _ status _ <&3
[[ $status == 200 ]]

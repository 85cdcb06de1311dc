#!/usr/bin/env bash
# The collector in separate processes on this machine, in the foreground: Redis (AOF, fsync before each answer), `serve`, `batch` and
# `compact --watch`. Installs what is missing on a bare Debian or Ubuntu with Rust. Ctrl-C stops all in order; starting
# again goes on where it was.
#
#   scripts/run-on-redis.sh                       listens on 127.0.0.1:8080, dataset in ./data, Redis and logs in ./var
#   SYSTOLE_LISTEN=127.0.0.1:9000 SYSTOLE_DATA=/srv/beats scripts/run-on-redis.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

LISTEN=${SYSTOLE_LISTEN:-127.0.0.1:8080}
DATA=${SYSTOLE_DATA:-$PWD/data}
VAR=${SYSTOLE_VAR:-$PWD/var}
# A socket, so that neither a port nor a Redis that the machine runs already is in the way.
SOCKET=$VAR/redis/redis.sock
BINARY=$PWD/target/release/systole
STOP_WITHIN_S=30

declare -A pids

start() {
  local name=$1
  shift
  "$@" >"$VAR/log/$name.log" 2>&1 &
  pids[$name]=$!
}

# stop NAME: asks it to end and waits; what it was doing goes on at the next start.
stop() {
  local pid=${pids[$1]:-} waited=0
  [ -n "$pid" ] || return 0
  kill -TERM "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.1
    waited=$((waited + 1))
    [ "$waited" -lt $((STOP_WITHIN_S * 10)) ] || { kill -KILL "$pid" 2>/dev/null || true; }
  done
  unset "pids[$1]"
}

stop_all() {
  trap - EXIT INT TERM
  say "stopping"
  # The door first, Redis last: each part can still do what it owes.
  for name in serve batch compact redis; do stop "$name"; done
}

await_url() {
  for _ in $(seq 300); do
    if curl --silent --fail --output /dev/null "$1"; then return; fi
    sleep 0.1
  done
  die "no answer from $1; see $VAR/log/"
}

need_rust
need_redis
need curl curl
say "building (the first time takes a while: Polars is large)"
cargo build --release --locked
mkdir -p "$DATA" "$VAR/log" "$VAR/redis"

# Ctrl-C reaches the whole group of this script; each part is stopped in order instead.
set -m
trap stop_all EXIT INT TERM

start redis redis-server --port 0 --unixsocket "$SOCKET" --unixsocketperm 700 --dir "$VAR/redis" --save '' \
  --appendonly yes --appendfsync always --maxmemory-policy noeviction
for _ in $(seq 300); do
  [ "$(redis-cli -s "$SOCKET" ping 2>/dev/null)" = PONG ] && break
  sleep 0.1
done
export SYSTOLE_BUFFER=unix://$SOCKET SYSTOLE_DATA=$DATA
start batch env SYSTOLE_LISTEN="${SYSTOLE_BATCH_LISTEN:-127.0.0.1:9101}" "$BINARY" batch
start compact env SYSTOLE_LISTEN="${SYSTOLE_COMPACT_LISTEN:-127.0.0.1:9102}" "$BINARY" compact --watch
start serve env SYSTOLE_LISTEN="$LISTEN" "$BINARY" serve
await_url "http://$LISTEN/health/ready"

cat <<TEXT

Systole listens on http://$LISTEN. Try it:

  curl -i http://$LISTEN/v1/heartbeats -H 'content-type: application/json' -d '{"user_id":"ada","device_id":"laptop","timestamp":"'"\$(date -u +%Y-%m-%dT%H:%M:%SZ)"'"}'

The first rows appear within seconds under $DATA/heartbeats/, later ones within a minute:

  duckdb -c "FROM '$DATA/heartbeats/**/*.parquet'"

Health: http://$LISTEN/health   Logs: $VAR/log/   Stop: Ctrl-C
TEXT

# One that ends by itself takes the others with it: half a collector is no collector.
wait -n || true
for name in "${!pids[@]}"; do
  kill -0 "${pids[$name]}" 2>/dev/null || die "$name ended by itself; see $VAR/log/$name.log"
done

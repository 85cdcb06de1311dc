#!/usr/bin/env bash
# How much memory `systole up` takes: under full load; under the same while it is asked and watches 100,000 devices; with a
# backlog of 10 million heartbeats; and while a bucket of 5 million rows is consolidated. Each must stay within 256 MiB resident; exit code 1 when one does not. Takes about a
# quarter of an hour on two cores.
#
#   scripts/memory.sh                    all of it
#   scripts/memory.sh --quick            the same with a tenth of the rows
#   scripts/memory.sh --only load        one of: load, asked, backlog, consolidate (or several: load,backlog)
#
# What is held against the limit is VmHWM, the kernel's own mark of the most that was resident: heap, stacks and the pages
# of the binary that were touched. RssAnon (sampled; heap and stacks alone) is printed beside it. Pages of the page cache
# that no process has mapped belong to neither, though a container's memory.current counts them: they are given up when
# they are wanted.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

LIMIT_KIB=$((256 * 1024))
SECONDS_EACH=20
BACKLOG=10000000
BUCKET=5000000
# As many as are remembered, and of each as many readers and lookers-on as come in.
DEVICES=100000
READERS=8
# Frames, then fragments and published files of the same rows, and slack: some 400 bytes for each row at the worst.
DISK_MIB=6144
ONLY=load,asked,backlog,consolidate
while [ $# -gt 0 ]; do
  case $1 in
    --quick) SECONDS_EACH=5 BACKLOG=1000000 BUCKET=500000 DISK_MIB=1536 ;;
    --only) ONLY=${2:?--only needs a scenario} && shift ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit ;;
    *) die "unknown argument $1; see $0 --help" ;;
  esac
  shift
done
for scenario in ${ONLY//,/ }; do
  case $scenario in load | asked | backlog | consolidate) ;; *) die "there is no scenario $scenario" ;; esac
done

BINARY=${SYSTOLE_BINARY:-$PWD/target/release/systole}
LOAD=$PWD/target/load/release/systole-load
# Rate limits out of the way.
FREE=(--user-rate 1000000000 --user-burst 1000000000 --address-rate 1000000000 --address-burst 1000000000)
# Nothing is claimed: a claim would be due in a year, or at more rows than come; the first, which is due at once, is of
# one frame for each partition.
HELD_BACK=(--max-delay 300days --drain-lag 1year --claim-rows 1000000000 --claim-bytes 1)
# Room for the backlog in each of the partitions, which are not filled evenly.
ROOMY=(--buffer-max-heartbeats $((2 * BACKLOG)) --buffer-max-bytes 8GiB)

work=
server=
sampler=
guests=()
exceeded=0
next=0

# start ARGUMENT…: `up` on the folder of this scenario; sets server, address and how long it took to be ready.
start() {
  local began=$EPOCHREALTIME
  : >"$work/out"
  "$BINARY" up --listen 127.0.0.1:0 --data "$work/data" --log warn "${FREE[@]}" "$@" >"$work/out" 2>>"$work/log" &
  server=$!
  address=
  until [ -n "$address" ] && curl --silent --fail --output /dev/null "http://$address/health/ready"; do
    kill -0 "$server" 2>/dev/null || die "systole ended: $(tail -n 3 "$work/log")"
    sleep 0.05
    address=$(sed -n 's/^Systole listens on http:\/\/\([^ ]*\)\. Try it:$/\1/p' "$work/out")
  done
  took_ms=$(((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}) / 1000))
}

stop() {
  ask_no_more
  [ -z "$sampler" ] || { kill "$sampler" && wait "$sampler"; } 2>/dev/null || true
  [ -z "$server" ] || { kill -TERM "$server" && wait "$server"; } 2>/dev/null || true
  sampler='' server=''
}

clean_up() {
  stop
  [ -z "$work" ] || rm -rf "$work"
}

fresh() {
  stop
  rm -rf "$work/data"
}

# memory NAME: a field of the server's status, in KiB.
memory() { sed -n "s/^$1:[[:space:]]*\([0-9]*\) kB\$/\1/p" "/proc/$server/status"; }

# Begins a measurement: the kernel's mark starts anew from what is resident now.
measure() {
  echo 5 >"/proc/$server/clear_refs"
  (
    peak=0
    trap 'echo "$peak" >"$work/anon"; exit' TERM
    while now=$(memory RssAnon) && [ -n "$now" ]; do
      [ "$now" -le "$peak" ] || peak=$now
      sleep 0.1
    done
  ) &
  sampler=$!
}

# measured NAME TEXT: ends it, prints a line and judges.
measured() {
  local peak verdict=OK
  peak=$(memory VmHWM)
  { kill "$sampler" && wait "$sampler"; } 2>/dev/null || true
  sampler=
  [ "$peak" -le "$LIMIT_KIB" ] || verdict=EXCEEDED exceeded=1
  printf '%-34s %8s %9s  %-8s %s\n' "$1" "$(mib "$peak")" "$(mib "$(cat "$work/anon")")" "$verdict" "$2"
}

mib() { printf '%d.%d' $(($1 / 1024)) $(($1 % 1024 * 10 / 1024)); }

# load ARGUMENT…: posts; sets the figures that the generator prints. No heartbeat is posted twice.
load() {
  local line
  per_s=0 p99_ms=0 put_off=0 refused=0
  line=$("$LOAD" --address "$address" --first "$next" "$@") || die "the load generator failed"
  for figure in $line; do declare -g "${figure%%=*}=${figure#*=}"; done
  [ "$refused" -eq 0 ] || die "$refused requests were refused: $line"
}

# metric NAME: the sum over its labels.
metric() {
  curl --silent --fail "http://$address/metrics" |
    awk -v name="systole_$1" '$1 == name || index($1, name "{") == 1 { sum += $2 } END { printf "%d", sum }'
}

# Waits until nothing is left in buffer and staging, seen twice: what left the one may not be counted in the other yet.
until_drained() {
  local deadline=$((SECONDS + 1800)) empty=0
  while [ "$empty" -lt 2 ]; do
    sleep 1.5
    if [ "$(metric buffer_heartbeats)" -eq 0 ] && [ "$(metric compactor_staged_rows)" -eq 0 ]; then
      empty=$((empty + 1))
    else
      empty=0
    fi
    [ "$SECONDS" -lt "$deadline" ] || die "not drained in half an hour; see $work/log"
  done
}

# under NAME ARGUMENT…: a measurement under load.
under() {
  local name=$1
  shift
  measure
  load --seconds "$SECONDS_EACH" "$@"
  measured "$name" "$per_s heartbeats/s, p99 $p99_ms ms, $put_off put off; $(metric buffer_heartbeats) wait, $(metric compactor_rows_published_total) published"
}

run_load() {
  fresh
  start --publish-after 5s
  measure
  sleep 2
  measured "idle" "ready after $took_ms ms"
  under "single POSTs, 64 connections" --connections 64
  under "bulks of 1,000, array" --connections 8 --bulk 1000
  under "bulks of 1,000, array, gzip" --connections 8 --bulk 1000 --gzip
  under "bulks of 1,000, ndjson" --connections 8 --bulk 1000 --form ndjson
  under "bulks of 1,000, ndjson, gzip" --connections 8 --bulk 1000 --form ndjson --gzip
  under "bulks of 10,000, 64 connections" --connections 64 --bulk 10000
  under "single POSTs, 512 connections" --connections 512
  local began=$SECONDS
  measure
  until_drained
  measured "what waits is drained" "in $((SECONDS - began)) s; $(metric compactor_rows_published_total) rows in $(metric compactor_published_files) files"
}

# Asks from now on: readers who stream what one user after the other has sent, two who look at the page, one who lists the
# silent.
ask() {
  local nth
  for ((nth = 0; nth < READERS; nth++)); do
    python3 scripts/bench/reader.py "$address" 1000 100000 >/dev/null 2>>"$work/log" &
    guests+=($!)
  done
  for path in status status/history 'silent?after=5s'; do
    while :; do
      curl --silent --output /dev/null "http://$address/v1/$path" || true
      sleep 0.5
    done &
    guests+=($!)
  done
}

ask_no_more() {
  [ "${#guests[@]}" -eq 0 ] || { kill "${guests[@]}" && wait "${guests[@]}"; } 2>/dev/null || true
  guests=()
}

run_asked() {
  fresh
  # Nobody listens there: events wait for as long as they are kept.
  printf '[[silence]]\nmatch = "*"\nafter = "10s"\nwebhook = "http://127.0.0.1:9/"\n' >"$work/systole.toml"
  start --config "$work/systole.toml" --publish-after 5s --read-streams $((2 * READERS)) --max-devices $((2 * DEVICES))
  load --seconds 900 --heartbeats $((10 * DEVICES)) --connections 8 --bulk 1000 --devices "$DEVICES"
  ask
  # They beat as of now, not as of a minute ago: else they would never be silent.
  under "single POSTs, and asked" --connections 64 --devices "$DEVICES" --from $((EPOCHSECONDS * 1000))
  under "bulks of 10,000, and asked" --connections 64 --bulk 10000 --devices "$DEVICES" --from $((EPOCHSECONDS * 1000))
  under "bulks of 1,000, and asked" --connections 8 --bulk 1000 --devices "$DEVICES" --from $((EPOCHSECONDS * 1000))
  local began=$SECONDS
  measure
  until_drained
  until [ "$(metric silence_raised)" -ge "$DEVICES" ]; do
    [ $((SECONDS - began)) -lt 600 ] || die "only $(metric silence_raised) of $DEVICES devices are raised; see $work/log"
    sleep 0.5
  done
  measured "drained, all devices are silent" "in $((SECONDS - began)) s; $(metric silence_raised) raised, $(metric silence_outbox_events) events wait, $(metric read_rows_total) rows read"
}

run_backlog() {
  fresh
  start "${HELD_BACK[@]}" "${ROOMY[@]}"
  measure
  load --seconds 900 --heartbeats "$BACKLOG" --connections 8 --bulk 1000
  measured "a backlog of $BACKLOG comes in" "$per_s heartbeats/s; $(($(metric buffer_bytes) >> 20)) MiB of frames wait"
  stop

  start "${HELD_BACK[@]}" "${ROOMY[@]}"
  measure
  sleep 5
  measured "a start with it waiting" "ready after $took_ms ms; $(metric buffer_heartbeats) heartbeats wait"
  stop

  start "${ROOMY[@]}"
  local began=$SECONDS
  measure
  until_drained
  measured "it is drained and published" "in $((SECONDS - began)) s; $(metric compactor_rows_published_total) rows in $(metric compactor_published_files) files"
}

run_consolidate() {
  fresh
  # One date, one partition, files of a 60th of the rows, none of which is consolidated yet.
  start --partitions 1 "${ROOMY[@]}" --claim-rows $((BUCKET / 60)) --publish-rows $((BUCKET / 60)) --max-files 100000 --small-file-share 1
  measure
  load --seconds 900 --heartbeats "$BUCKET" --connections 8 --bulk 1000
  until_drained
  measured "one bucket gets $BUCKET rows" "$(metric compactor_rows_published_total) rows in $(metric compactor_published_files) files"
  stop

  # A day before, which is another bucket: the one that is consolidated is not to be kept from its work.
  local began=$SECONDS yesterday=$(((EPOCHSECONDS - 86400) * 1000))
  start "${ROOMY[@]}" --large-file-rows $((BUCKET / 5))
  measure
  load --seconds "$SECONDS_EACH" --connections 8 --bulk 1000 --from "$yesterday"
  until [ "$(metric compactor_rows_consolidated_total)" -ge $((BUCKET * 9 / 10)) ]; do
    [ $((SECONDS - began)) -lt 900 ] || die "not consolidated in a quarter of an hour; see $work/log"
    sleep 0.5
  done
  measured "it is consolidated under load" "in $((SECONDS - began)) s; $(metric compactor_rows_consolidated_total) rows rewritten; $per_s heartbeats/s meanwhile"
}

need_rust
need curl curl
need python3 python3
if [ -z "${SYSTOLE_BINARY:-}" ]; then cargo build --release --locked; fi
cargo build --release --locked --manifest-path scripts/load/Cargo.toml --target-dir target/load

work=$(mktemp -d "${SYSTOLE_WORK:-$PWD/target}/memory.XXXXXX")
trap clean_up EXIT
trap 'exit 130' INT TERM
free_mib=$(df --output=avail -m "$work" | tail -n 1)
say "about $DISK_MIB MiB of disk are needed under ${work%/*}, $((free_mib)) are free"
[ "$free_mib" -ge "$DISK_MIB" ] || die "not enough; set SYSTOLE_WORK to a folder with more room"

printf '%-34s %8s %9s\n' "MiB at the peak:" resident anonymous
for scenario in ${ONLY//,/ }; do
  "run_$scenario"
done
if [ "$exceeded" -ne 0 ]; then die "more than $((LIMIT_KIB / 1024)) MiB were resident"; fi
say "never more than $((LIMIT_KIB / 1024)) MiB were resident"

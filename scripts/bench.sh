#!/usr/bin/env bash
# Systole measured against the limit of this machine: starts all it needs on private ports and folders, runs each scenario
# beside its limit, and prints a table. Installs what is missing on a bare Debian or Ubuntu with Rust. After the build it
# takes less than 15 minutes on two cores, and is to be run on a machine that does nothing else.
#
#   scripts/bench.sh                     all of it, 5 rounds
#   scripts/bench.sh --only 1,4          these scenarios only
#   scripts/bench.sh --rounds 9          more rounds
#   scripts/bench.sh --json FILE         every round's figures as well, into FILE
#
#   1 2 3   single POSTs over 64 connections: Redis everysec, Redis always, embedded buffer
#   4       bulks of 1,000, as array and as NDJSON, on each of the three
#   5       a backlog of 2 million heartbeats from Redis into fragments, on one core
#   6       publish 200 fragments; consolidate 20 published files: against DuckDB and Polars
#   7       growth: what a batch and a publish read and write when the day already holds 0, 1 and 10 million rows
#   8       the whole: bulks in, published files out, in one process
#   9       a small pod: 0.2 cores, 256 MiB
#   10      bytes of a heartbeat in published files: against DuckDB and Polars
#   11      latencies of the 202 at half load; time from the 202 to the published row
#   12      single POSTs beside 8 readers: against the same without them
#
# SYSTOLE_BINARY measures that binary, and builds none. SYSTOLE_WORK is the folder to work in (else target/), on the disk
# that is to be measured. target/bench/venv holds the pinned DuckDB and Polars.
set -euo pipefail
caller=$PWD
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

DISK_MIB=4096
VENV=$PWD/target/bench/venv
REQUIREMENTS=$PWD/scripts/bench/requirements.txt

arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit ;;
    --json) arguments+=(--json "$(cd "$caller" && realpath --canonicalize-missing "${2:?--json needs a file}")") && shift ;;
    --only)
      [[ ${2:?--only needs scenarios, as in 1,4} =~ ^([1-9]|1[0-2])(,([1-9]|1[0-2]))*$ ]] ||
        die "--only $2: give numbers of scenarios, as in 1,4; see $0 --help"
      arguments+=(--only "$2") && shift
      ;;
    --rounds)
      case ${2:?--rounds needs a number} in '' | 0 | *[!0-9]*) die "--rounds $2: at least 1 is needed" ;; esac
      arguments+=(--rounds "$2") && shift
      ;;
    *) die "unknown argument $1; see $0 --help" ;;
  esac
  shift
done

# The limit of the intake is the same framework with nothing in it: another version of it would be another limit.
version_of() { sed -n "/^name = \"$1\"\$/{n;s/version = \"\(.*\)\"/\1/p}" "$2"; }
check_limit_app() {
  local ours theirs
  ours=$(version_of actix-web Cargo.lock) theirs=$(version_of actix-web scripts/limit/Cargo.lock)
  [ "$ours" = "$theirs" ] ||
    die "scripts/limit has actix-web $theirs, Systole $ours: cargo update --manifest-path scripts/limit/Cargo.toml -p actix-web --precise $ours"
}

install_rivals() {
  cmp --silent "$REQUIREMENTS" "$VENV/installed" && return
  python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
  say "installing DuckDB and Polars into $VENV"
  rm -rf "$VENV"
  python3 -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check --requirement "$REQUIREMENTS" ||
    die "pip could not install what scripts/bench/requirements.txt names"
  cp "$REQUIREMENTS" "$VENV/installed"
}

need_rust
need_redis
need python3 python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed, this is $(python3 -V)"
need taskset util-linux
check_limit_app
install_rivals
if [ -z "${SYSTOLE_BINARY:-}" ]; then cargo build --release --locked; fi
cargo build --release --locked --manifest-path scripts/load/Cargo.toml --target-dir target/load
cargo build --release --locked --manifest-path scripts/limit/Cargo.toml --target-dir target/limit

work=$(realpath "${SYSTOLE_WORK:-target}")
free_mib=$(df --output=avail -m "$work" | tail -n 1)
[ "$free_mib" -ge "$DISK_MIB" ] ||
  die "about $DISK_MIB MiB are needed under $work, $((free_mib)) are free; set SYSTOLE_WORK to a folder with more room"
# It ends what it has started and removes its folder itself, also when it is interrupted.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts exec python3 -m bench \
  --systole "$(realpath "${SYSTOLE_BINARY:-target/release/systole}")" --work "$work" --python "$VENV/bin/python" \
  --load "$PWD/target/load/release/systole-load" --limit "$PWD/target/limit/release/systole-limit" "${arguments[@]}"

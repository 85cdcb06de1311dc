#!/usr/bin/env bash
# Tortures the real processes: all roles under load on a buffer, faults at random (processes, Redis, the network between
# them, disk, clock, descriptors), rounds on Redis and on the embedded buffer in turn. After each round everything is
# healed and drained; then every heartbeat that was answered 202 must be published once, by a ledger of the clients' own,
# and `systole audit` and `systole verify` must find nothing. Readers ask all the time, and must find what was answered 202
# before. Prints rounds, faults by kind, readings, acknowledged, published, lost and doubled; exit code 1 when anything was
# lost, doubled or missed by a reader, or the books do not balance. Then the folder of that round stays. Faults that need root
# or a program that is not there are left out, saying so.
#
#   scripts/torture.sh                     for 10 minutes
#   scripts/torture.sh 60                  for an hour (at least one round on each buffer)
#   scripts/torture.sh 10 4711             with the faults of this seed, which each run prints
#   scripts/torture.sh 0 4711 --first 7    only rounds 7 and 8 of it, as one of them failed
#   scripts/torture.sh 1 4711 --seconds 5  with 5 s of load in a round, instead of 20
#
# SYSTOLE tortures that binary, and builds none. SYSTOLE_WORK is the folder to work in (else target/).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

case ${1:-} in -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" && exit ;; esac
minutes=${1:-10}
seed=${2:-$RANDOM$RANDOM}
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "$minutes are no minutes; see $0 --help"

need_redis
need python3 python3
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed, this is $(python3 -V)"
# The reader of what is published; the one that scripts/test.sh installs will do.
install_readers
if [ -z "${SYSTOLE:-}" ]; then
  need_rust
  cargo build --release --locked
fi
binary=$(realpath "${SYSTOLE:-target/release/systole}")
[ -x "$binary" ] || die "there is no binary $binary"

# It ends what it has started and removes its folder itself, also when it is interrupted.
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=scripts:$PYTHONPATH exec python3 -m torture \
  --systole "$binary" --work "$(realpath "${SYSTOLE_WORK:-target}")" --minutes "$minutes" --seed "$seed" "${@:3}"

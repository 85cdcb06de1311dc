#!/usr/bin/env bash
# Takes the pictures of the page in docs/images, of a real `systole up` under load: by day, by night, on a phone, and unwell.
# scripts/screenshots.sh [path of the binary [minutes of the collector's own time]]; takes about a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

BINARY=${1:-${CARGO_TARGET_DIR:-target}/debug/systole}
MINUTES=${2:-62}
IMAGES=$PWD/docs/images
# The README must load fast.
MOST_BYTES=200000

need python3 python3
need faketime faketime
need chromium chromium
need chromedriver chromium-driver
[ -x "$BINARY" ] || die "$BINARY is not there; scripts/test.sh builds it"

PYTHONDONTWRITEBYTECODE=1 python3 scripts/screenshots.py "$(realpath "$BINARY")" "$IMAGES" "$MINUTES"
for image in "$IMAGES"/page-*.png; do
  size=$(stat -c %s "$image")
  [ "$size" -le "$MOST_BYTES" ] || die "$image has $size bytes, more than $MOST_BYTES"
  say "$image: $size bytes"
done

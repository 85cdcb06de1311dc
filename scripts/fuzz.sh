#!/usr/bin/env bash
# Fuzzes every decoder of what comes from outside for so many seconds each (60): scripts/fuzz.sh [seconds] [target…]
# Needs a nightly toolchain (rustup toolchain install nightly) and a C++ compiler; installs cargo-fuzz when it is missing.
# The first build takes about ten minutes of all cores, as the whole library is built with instrumentation. What is found
# stands in fuzz/artifacts/: mend it, and put the file into fuzz/corpus/, which the tests replay.
# Without all that: SYSTOLE_FUZZ_SECONDS=60 cargo test --lib what_is_like_the_corpus_holds -- --nocapture
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls fuzz/fuzz_targets | sed 's/\.rs$//')

cargo +nightly --version >/dev/null 2>&1 || die "no nightly toolchain: rustup toolchain install nightly"
command -v c++ >/dev/null || die "no C++ compiler: apt-get install g++"
cargo fuzz --version >/dev/null 2>&1 || { say "installing cargo-fuzz"; cargo install --locked cargo-fuzz; }

# New inputs go to a folder of their own, so that the corpus stays small: `cargo fuzz cmin` tells which are worth keeping.
for target in "${targets[@]}"; do
  say "$target: $seconds s"
  mkdir -p "fuzz/target/found/$target"
  # No sanitizer: there is no unsafe code of ours, and without one the build is far cheaper.
  cargo +nightly fuzz run --sanitizer none "$target" "fuzz/target/found/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=16384 -rss_limit_mb=2048 -print_final_stats=1
done

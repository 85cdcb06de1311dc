#!/usr/bin/env bash
# All tests and checks, on a bare Debian or Ubuntu with Rust. Installs what is missing: redis-server, faketime, chromium and the
# like by apt-get; DuckDB, PyArrow, promtool and the like into target/. Arguments go to the test runner: scripts/test.sh -E
# 'binary(cap)'.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

# What was judged, a line each, for docs/reliability.md (tests/reliability.rs).
FIGURES=$PWD/target/tmp/figures.tsv

report_skipped() {
  [ -s "$SKIPPED" ] || { say "nothing was skipped" && return; }
  say "$(wc -l <"$SKIPPED") skipped:"
  sort "$SKIPPED" | uniq -c >&2
}

run_tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --all-targets "$@"
    cargo test --locked --doc
  else
    say "cargo-nextest is not installed: cargo test runs the tests (slower, the same tests)"
    cargo test --locked "$@"
  fi
}

check_dependencies() {
  if ! cargo deny --version >/dev/null 2>&1; then
    skip "cargo deny check" "cargo-deny is not installed"
    return
  fi
  cargo deny --offline check bans licenses sources
  # The advisories are a download of their own. Where it cannot be had that is said, and is no fault of the tree.
  if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
  else
    skip "cargo deny check advisories" "the advisory database cannot be fetched"
  fi
}

# The programs of the measurements: workspaces of their own, so that they change nothing about Systole's dependencies.
check_measuring() {
  local program
  for program in load limit; do
    cargo fmt --manifest-path "scripts/$program/Cargo.toml" --check
    cargo clippy --locked --manifest-path "scripts/$program/Cargo.toml" --target-dir "target/$program" -- -D warnings
  done
  cargo test --quiet --locked --manifest-path scripts/load/Cargo.toml --target-dir target/load
  PYTHONPYCACHEPREFIX=$PWD/target/pycache python3 -m py_compile \
    scripts/bench/*.py scripts/bench/rivals/*.py scripts/torture/*.py
}

need_rust
need_redis
need python3 python3
# For the faults of the machine; what still cannot be had here (root, a mount) is skipped, and said so at the end.
need faketime faketime
need prlimit util-linux
PATH=$PATH:/usr/sbin:/sbin need mkfs.ext4 e2fsprogs
# For the tests of the page.
want chromium chromium
want chromedriver chromium-driver
install_readers
install_judges

rm -f "$SKIPPED" "$FIGURES"
cargo fmt --check
run_tests "$@"
cargo clippy --locked --all-targets -- -D warnings
scripts/check-api.sh
check_measuring
# A round of some seconds on each buffer, on the binary that the tests ran.
[ $# -gt 0 ] || SYSTOLE=target/debug/systole scripts/torture.sh 0 "" --seconds 6
check_dependencies
report_skipped
say "all tests and checks passed"

# Shared by the scripts beside it; to be sourced. Installs what is missing on a bare Debian or Ubuntu, and only that.
# shellcheck shell=bash

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# What was not tested, a line each; tests/support/skip.rs appends to it as well. scripts/test.sh shows it at its end.
SKIPPED=$PWD/target/tmp/skipped.txt

# skip WHAT WHY
skip() {
  local line="SKIPPED: $1 ($2)"
  say "$line"
  mkdir -p "$(dirname "$SKIPPED")"
  printf '%s\n' "$line" >>"$SKIPPED"
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND…: as it is for root, else by sudo.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo "$@"
  else
    die "'$*' needs root, and there is no sudo; run it as root and start this script again"
  fi
}

# install_packages PACKAGE…: by apt-get.
install_packages() {
  have apt-get || die "please install $* (this script knows only apt-get)"
  say "installing $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
    { as_root apt-get update >&2 &&
      as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; } ||
    die "apt-get could not install $*"
}

# need COMMAND PACKAGE: installs the package when the command is missing.
need() { have "$1" || install_packages "$2"; }

# want COMMAND PACKAGE…: installs the packages when the command is missing. Where they cannot be had, what needs it says so.
want() {
  have "$1" || (shift && install_packages "$@") || say "without $1: what needs it is skipped"
}

# Systole's scripts in Redis carry flags that came with Redis 7: Debian 12, Ubuntu 24.04 and later have it.
need_redis() {
  need redis-server redis-server
  need redis-cli redis-tools
  local version
  version=$(redis-server --version | sed -n 's/.* v=\([0-9]*\)\..*/\1/p')
  [ "${version:-0}" -ge 7 ] || die "redis-server 7.0 or newer is needed, this is $(redis-server --version)"
}

need_rust() {
  have cargo || { [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"; }
  have cargo || die "Rust is missing; get it from https://rustup.rs and start this script again"
  # Crates with parts in C (zstd, ring, jemalloc) are compiled here.
  have cc || install_packages gcc libc6-dev
  need make make
}

# Other people's Parquet readers, into a folder of their own: neither the system's Python nor the user's is touched.
PYTHON_PACKAGES=(duckdb pyarrow)
PYTHON_FOLDER=$PWD/target/test-python

readers_there() { python3 -c 'import duckdb, pyarrow.dataset' 2>/dev/null; }

install_readers() {
  export PYTHONPATH=$PYTHON_FOLDER${PYTHONPATH:+:$PYTHONPATH}
  readers_there && return
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  say "installing ${PYTHON_PACKAGES[*]} into $PYTHON_FOLDER"
  mkdir -p "$PYTHON_FOLDER"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
    --target "$PYTHON_FOLDER" --upgrade "${PYTHON_PACKAGES[@]}"
  readers_there || die "python3 cannot import ${PYTHON_PACKAGES[*]} from $PYTHON_FOLDER"
}

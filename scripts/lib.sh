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

# Python packages go into a folder of their own: neither the system's Python nor the user's is touched.
PYTHON_FOLDER=$PWD/target/test-python

# need_python MODULES PACKAGE…: installs the packages when the modules (apart by commas) cannot be imported.
need_python() {
  local modules=$1
  shift
  [[ :${PYTHONPATH:-}: == *:$PYTHON_FOLDER:* ]] || export PYTHONPATH=$PYTHON_FOLDER${PYTHONPATH:+:$PYTHONPATH}
  python3 -c "import $modules" 2>/dev/null && return
  python3 -m pip --version >/dev/null 2>&1 || install_packages python3-pip
  say "installing $* into $PYTHON_FOLDER"
  mkdir -p "$PYTHON_FOLDER"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
    --target "$PYTHON_FOLDER" --upgrade "$@"
  python3 -c "import $modules" || die "python3 cannot import $modules from $PYTHON_FOLDER"
}

# Other people's Parquet readers.
install_readers() { need_python duckdb,pyarrow.dataset duckdb pyarrow; }

# What judges the files under deploy/. Of Debian's package for Prometheus only promtool is taken out: installing it whole would
# start a server on this machine. Where it cannot be had its tests are skipped, and said so.
install_judges() {
  need_python yaml,kubernetes_validate PyYAML kubernetes-validate
  local folder=$PWD/target/test-tools
  have promtool || [ -x "$folder/usr/bin/promtool" ] && return
  have apt-get && have dpkg-deb || return 0
  say "unpacking promtool into $folder"
  mkdir -p "$folder"
  (cd "$folder" && { apt-get download prometheus || { as_root apt-get update && apt-get download prometheus; }; } &&
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && rm prometheus_*.deb) >&2 ||
    say "promtool cannot be had here"
}

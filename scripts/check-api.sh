#!/usr/bin/env bash
# Holds the server to its own description: starts the debug binary on a temporary folder, judges /openapi.json against the
# OpenAPI 3.1 schema, and lets schemathesis ask for whatever that document allows, and for what it does not.
# scripts/check-api.sh [path of the binary]; exit 0 held (or skipped, with a line SKIPPED), 1 a finding.
#
# Asked of every answer: no 5xx that the document does not expect, no status, content type, header or body that it does not
# describe, and 405 with Allow for methods that it does not have. Not asked, and why:
#   positive_data_acceptance   a time of any year is of the right form, and still too old or too far ahead for a heartbeat
#   negative_data_rejection    a header that is not understood (Prefer, X-Request-Id) is passed over, as its RFC wants it
#   missing_required_header, ignored_auth, use_after_free, ensure_resource_availability, object_level_authorization
#                              there is no such header, no operation that only a token opens, and nothing that can be deleted
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

BINARY=${1:-${CARGO_TARGET_DIR:-target}/debug/systole}
# Pinned, so that a gate that held yesterday holds today.
PACKAGES=(schemathesis==4.32.5 openapi-spec-validator==0.9.0)
PYTHON_FOLDER=$PWD/target/api-python
# For each operation, beside those of the fixed phases: half a minute in all.
EXAMPLES=100
CHECKS=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
CHECKS+=,response_schema_conformance,unsupported_method,allow_header_conformance
DEADLINE_S=240

python() { PYTHONPATH=$PYTHON_FOLDER PYTHONDONTWRITEBYTECODE=1 python3 "$@"; }

tools_there() { python -c 'import schemathesis, openapi_spec_validator' 2>/dev/null; }

install_tools() {
  tools_there && return
  have python3 || { skip "scripts/check-api.sh" "python3 is not installed" && exit 0; }
  say "installing ${PACKAGES[*]} into $PYTHON_FOLDER"
  mkdir -p "$PYTHON_FOLDER"
  # A folder of their own: neither the system's Python nor the user's is touched.
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
    --retries 1 --timeout 15 --target "$PYTHON_FOLDER" --upgrade "${PACKAGES[@]}" >&2 ||
    { skip "scripts/check-api.sh" "pip cannot install ${PACKAGES[*]}" && exit 0; }
}

start_server() {
  [ -x "$BINARY" ] || die "$BINARY is not there; scripts/test.sh builds it"
  HOME_FOLDER=$(mktemp -d)
  # Limits that are there, so that their headers are, and that nothing here meets.
  (cd "$HOME_FOLDER" && exec env -i PATH="$PATH" "$BINARY" up --listen 127.0.0.1:0 --data "$HOME_FOLDER/data" \
    --address-rate 1000000 --address-burst 1000000 --user-rate 1000000 --user-burst 1000000) \
    >"$HOME_FOLDER/said" 2>"$HOME_FOLDER/log" &
  SERVER=$!
  trap stop_server EXIT
  local try
  for try in $(seq 100); do
    URL=$(sed -n 's/^Systole listens on \(http:[^ ]*\)\. .*/\1/p' "$HOME_FOLDER/said")
    [ -z "$URL" ] || return 0
    kill -0 "$SERVER" 2>/dev/null || break
    sleep 0.2
  done
  cat "$HOME_FOLDER/log" >&2
  die "$BINARY did not begin to listen (looked $try times)"
}

# await_status PATH STATUS
await_status() {
  local try
  for try in $(seq 100); do
    [ "$(status_of "$URL$1")" = "$2" ] && return
    sleep 0.2
  done
  die "no $2 from $1 (asked $try times)"
}

status_of() {
  python3 - "$1" <<'PYTHON'
import sys, urllib.error, urllib.request

try:
    print(urllib.request.urlopen(sys.argv[1]).status)
except urllib.error.HTTPError as error:
    print(error.code)
PYTHON
}

stop_server() {
  kill "$SERVER" 2>/dev/null || true
  wait "$SERVER" || true
  rm -rf "$HOME_FOLDER"
}

# As a file: schemathesis would leave out the path that it read the document from.
fetch_document() {
  python3 -c 'import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1]).read())' \
    "$URL/openapi.json" >"$HOME_FOLDER/openapi.json"
}

validate() {
  python - "$HOME_FOLDER/openapi.json" <<'PYTHON'
import json, sys
from openapi_spec_validator import OpenAPIV31SpecValidator

with open(sys.argv[1]) as file:
    faults = list(OpenAPIV31SpecValidator(json.load(file)).iter_errors())
sys.exit("\n".join(f"{'/'.join(map(str, fault.path))}: {fault.message}" for fault in faults) or 0)
PYTHON
}

# ask PHASES: by these phases of schemathesis. Deterministic: the same requests each time.
ask() {
  (cd "$HOME_FOLDER" && timeout "$DEADLINE_S" env PYTHONPATH="$PYTHON_FOLDER:$HOOKS" SCHEMATHESIS_HOOKS=hooks \
    PYTHONDONTWRITEBYTECODE=1 python3 -m schemathesis.cli run openapi.json --url "$URL" \
    --checks "$CHECKS" --phases "$1" --max-examples "$EXAMPLES" \
    --generation-deterministic --request-timeout 30 --warnings off --no-color) >&2 ||
    die "the server is not what /openapi.json says, or schemathesis did not end within $DEADLINE_S s"
}

install_tools
BINARY=$(realpath "$BINARY")
HOOKS=$PWD/scripts/api
start_server
await_status /health/ready 200
await_status /metrics 200
fetch_document
validate || die "the document at /openapi.json breaks the OpenAPI 3.1 schema"
say "the document is OpenAPI 3.1; asking for what it describes"
ask examples,coverage,fuzzing
say "the same without the token that is needed from now on"
"$BINARY" token create --data "$HOME_FOLDER/data" --user ada --scope write >/dev/null
# The server reads it when it reads the tokens next.
await_status /metrics 401
ask examples,coverage
kill -0 "$SERVER" 2>/dev/null || die "the server ended by itself"
say "the server is what /openapi.json says"

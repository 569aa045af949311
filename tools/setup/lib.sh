# lib.sh - what tools/quickstart and tools/check share: packages, the Python environment, building. Sourced by bash.
# Every step looks first whether it is done.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
jobs=${TENON_JOBS:-$(nproc)}

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else echo "tenon: installing packages needs root or sudo: $*" >&2; exit 1; fi
}

install_packages() {
  local want missing=()
  mapfile -t want < <(grep -v '^#' tools/setup/packages.txt)
  for p in "${want[@]}"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
  done
  if [ ${#missing[@]} = 0 ]; then say "packages: all ${#want[@]} are installed"; return; fi
  say "packages: installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# For the test that looks at report pages, which is skipped without one.
browser() {
  local b
  for b in chromium-headless-shell chromium chromium-browser google-chrome; do
    if command -v "$b" >/dev/null; then say "browser: $b"; return; fi
  done
  say "browser: installing chromium-headless-shell"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium-headless-shell >/dev/null ||
    say "browser: WARNING: it could not be installed; the test of report pages will be skipped"
}

# An environment of our own under build/, with the small wheels that the tests compare against.
python_environment() {
  local stamp=build/venv/.done want
  want=$(sha256sum tools/setup/requirements.txt)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then say "python: environment is ready"; return; fi
  say "python: making build/venv"
  local python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  "$python" -m venv build/venv
  if build/venv/bin/pip install -q --disable-pip-version-check -r tools/setup/requirements.txt; then
    echo "$want" > "$stamp"
  else
    say "python: WARNING: packages could not be fetched; the tests that need them will be skipped"
  fi
}

# configure PRESET...: so that a configuration that can't be had is known before the first hour of tests.
configure() {
  local preset
  for preset in "$@"; do
    [ -f "build/$preset/build.ninja" ] || { say "configure: $preset"; cmake --preset "$preset" -DTENON_PYTHON="$root/build/venv/bin/python" >/dev/null; }
  done
}

# build PRESET [TARGET...]
build() {
  local preset=$1; shift
  configure "$preset"
  say "build: $preset"
  cmake --build --preset "$preset" -j "$jobs" ${1:+--target "$@"} -- --quiet
}

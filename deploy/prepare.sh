# Sourced by deploy/demo and deploy/test. Provides the virtual environment, the footage and (for the tests)
# PostgreSQL, Chromium, nginx, Caddy, promtool and Mosquitto, each only if it is missing. Needs Python 3.11 or newer with pip, and
# apt-get and dpkg-deb for the footage.
# Everything is kept in the environment and in the user's cache, except PostgreSQL and Chromium, which are system packages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${SECTORWATCH_VENV:-$root/.venv}

say() { printf '\n== %s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# step NAME COMMAND...: runs the command under a heading, and prints how long it took.
step() {
  local began=$SECONDS
  say "$1"
  "${@:2}"
  printf '   (%s: %d s)\n' "$1" $((SECONDS - began))
}

# beside NAME COMMAND...: runs the command in the background, one at a time. `joined` waits for it and prints what it wrote.
beside() {
  beside_name=$1 beside_began=$SECONDS beside_log=$venv/beside.log
  "${@:2}" >"$beside_log" 2>&1 &
  beside=$!
}

joined() {
  local status=0
  say "$beside_name"
  wait "$beside" || status=$?
  beside=
  cat "$beside_log"
  printf '   (%s: %d s)\n' "$beside_name" $((SECONDS - beside_began))
  return "$status"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The path of a Python that is new enough. PYTHON, where it is set, is the only candidate.
find_python() {
  local candidate found=""
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    command -v "$candidate" >/dev/null || continue
    is_new_enough "$candidate" && { command -v "$candidate"; return; }
    found="${found:-; here $candidate is $("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || echo older)}"
  done
  fail "Python 3.11 or newer is needed${found:-; here is no ${PYTHON:-python3}}: Debian 12 and Ubuntu 24.04 have it (apt-get install python3), or name another: PYTHON=/path/to/python $0"
}

# pip_failure LOG: the end of what pip wrote, and in one line what mends it.
pip_failure() {
  tail -n 5 "$1" >&2
  if grep -q "No space left on device" "$1"; then
    fail "The disk is full: make room (df -h '$venv' '${TMPDIR:-/tmp}'), or put the environment elsewhere: SECTORWATCH_VENV=/path $0"
  elif grep -qE "name resolution|Name or service not known|NewConnectionError|Network is unreachable|ConnectTimeout|ProxyError|Max retries" "$1"; then
    fail "The package index cannot be reached: check the network (and https_proxy, where a proxy is needed), then run $0 again"
  fi
  fail "The installation failed, see above. Run $0 again, or begin anew: rm -r '$venv'"
}

# Debian's Python has no ensurepip unless python3-venv is installed. pip can install virtualenv instead.
make_venv() {
  local python tools
  python=$(find_python) || exit 1
  say "Making the environment $venv"
  "$python" -m venv "$venv" 2>/dev/null && return
  rm -rf "$venv"
  mkdir -p "$venv" 2>/dev/null || fail "$venv cannot be made: choose another place: SECTORWATCH_VENV=/path $0"
  tools=$(mktemp -d) || fail "no temporary folder can be made: make room (df -h '${TMPDIR:-/tmp}')"
  "$python" -m pip install --quiet --target "$tools" virtualenv >/dev/null 2>&1 ||
    fail "Neither venv nor pip works for $python: apt-get install python3-venv (as root), then run $0 again"
  PYTHONPATH=$tools "$python" -m virtualenv --quiet "$venv" || fail "virtualenv could not make $venv"
  rm -rf "$tools"
}

# prepare_venv EXTRAS: the project, editable, with these extras, at the versions of deploy/constraints.txt.
prepare_venv() {
  local wanted log
  wanted="$1 $(cat "$root/pyproject.toml" "$root/deploy/constraints.txt" | sha256sum)"
  if [ -x "$venv/bin/python" ]; then
    is_new_enough "$venv/bin/python" ||
      fail "The environment $venv has a Python older than 3.11: remove it (rm -r '$venv'), then run $0 again"
  else
    make_venv
  fi
  if [ "$(cat "$venv/.sectorwatch" 2>/dev/null)" != "$wanted" ]; then
    say "Installing sectorwatch[$1] (with PyTorch: some minutes the first time)"
    log="$venv/install.log"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --constraint "$root/deploy/constraints.txt" --editable "$root[$1]" >"$log" 2>&1 || pip_failure "$log"
    printf '%s\n' "$wanted" >"$venv/.sectorwatch"
  fi
  export PATH="$venv/bin:$PATH"
}

# provide_postgresql: the server programs with which the tests start a cluster of their own.
provide_postgresql() {
  local missing
  missing=$(python -m tests.server.databases 2>&1) && return
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qy postgresql-common >/dev/null || {
    apt-get -q update >/dev/null && apt-get install -qy postgresql-common >/dev/null
  } || fail "apt-get could not install PostgreSQL, see above."
  # Debian otherwise makes and starts a cluster of its own at installation.
  sed -i 's/^#create_main_cluster = .*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
  apt-get install -qy postgresql >/dev/null || fail "apt-get could not install PostgreSQL, see above."
  python -m tests.server.databases || exit 1
}

# provide_chromium: the browser of the tests of the pages. They take one on PATH, or the one that SECTORWATCH_TEST_CHROMIUM names.
provide_chromium() {
  local missing
  missing=$(python -m tests.browser.chromium 2>&1) && return
  [ -z "${SECTORWATCH_TEST_CHROMIUM:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "$missing"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qy --no-install-recommends chromium fonts-dejavu-core >/dev/null || {
    apt-get -q update >/dev/null && apt-get install -qy --no-install-recommends chromium fonts-dejavu-core >/dev/null
  } || fail "apt-get could not install Chromium, see above."
  python -m tests.browser.chromium || exit 1
}

cache_dir() {
  python -c 'from server.catalogue.weights import cache_dir; print(cache_dir())'
}

# fetch_programs: what the tests of the files in deploy/ start (nginx, Caddy, promtool), from Debian's packages, unpacked into
# the cache and not installed. Programs on PATH are used instead.
fetch_programs() {
  local dir package file missing packages
  dir=$(cache_dir)/programs || exit 1
  if missing=$(python -m tests.programs 2>&1); then return; fi
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "$missing"
  mapfile -t packages < <(python -m tests.programs packages)
  mkdir -p "$dir"
  package=$(mktemp -d)
  chmod 755 "$package"
  (cd "$package" && { apt-get -q download "${packages[@]}" 2>/dev/null ||
    { apt-get -q update >/dev/null && apt-get -q download "${packages[@]}"; }; } >/dev/null) ||
    fail "apt-get could not download ${packages[*]}. Try: apt-get update (as root), or install them"
  for file in "$package"/*.deb; do dpkg-deb -x "$file" "$dir" || fail "dpkg-deb could not unpack $file."; done
  rm -rf "$package"
  python -m tests.programs || exit 1
}

# fetch_mosquitto: the broker for the tests of the channel to one, with the libraries that are not installed, from Debian's
# packages, unpacked into the cache and not installed: an installed one would run as a service. One on PATH is used instead.
fetch_mosquitto() {
  local dir package file missing
  dir=$(cache_dir)/mosquitto || exit 1
  if missing=$(python -m tests.mosquitto 2>&1); then return; fi
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "$missing"
  mkdir -p "$dir"
  package=$(mktemp -d)
  chmod 755 "$package"
  mkdir "$package/partial"
  local fetch=(apt-get -qy -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o "Dir::Cache::archives=$package"
    --download-only --no-install-recommends install mosquitto)
  { "${fetch[@]}" >/dev/null 2>&1 || { apt-get -q update >/dev/null && "${fetch[@]}" >/dev/null; }; } ||
    fail "apt-get could not download mosquitto. Try: apt-get update (as root), or install it"
  for file in "$package"/*.deb; do dpkg-deb -x "$file" "$dir" || fail "dpkg-deb could not unpack $file."; done
  rm -rf "$package"
  python -m tests.mosquitto || exit 1
}

# fetch_footage: puts the demonstration footage into the cache and its path into $footage.
# It is PETS 2009 S2.L1, view 1: 795 frames, from Debian's package opencv-doc, which is unpacked but not installed.
fetch_footage() {
  local dir package sum=45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf
  dir=$(cache_dir)/footage || exit 1
  footage=$dir/vtest.avi
  if [ -f "$footage" ] && echo "$sum  $footage" | sha256sum --check --status; then return; fi
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
    fail "The demonstration footage comes from Debian's package opencv-doc, but apt-get or dpkg-deb is missing here.
Give a video of your own instead: deploy/demo --footage FILE, or a camera: deploy/demo --camera 0.
(Or put OpenCV's sample vtest.avi at $footage.)"
  say "Fetching the demonstration footage (Debian's opencv-doc, 50 MB, unpacked into the cache)"
  mkdir -p "$dir"
  package=$(mktemp -d)
  chmod 755 "$package"
  (cd "$package" && { apt-get -q download opencv-doc 2>/dev/null ||
    { apt-get -q update >/dev/null && apt-get -q download opencv-doc; }; } >/dev/null) ||
    fail "apt-get could not download opencv-doc. Try: apt-get update (as root), or deploy/demo --footage FILE"
  dpkg-deb -x "$package"/opencv-doc_*.deb "$package/x" || fail "dpkg-deb could not unpack opencv-doc."
  local found
  found=$(find "$package/x" -name 'vtest.avi*' | head -n 1)
  case "$found" in
    "") fail "opencv-doc here holds no vtest.avi. Give a video of your own: deploy/demo --footage FILE" ;;
    *.gz) gunzip --stdout "$found" >"$footage.part" ;;
    *) cp "$found" "$footage.part" ;;
  esac
  echo "$sum  $footage.part" | sha256sum --check --status || fail "vtest.avi is not the file it should be ($sum)."
  mv "$footage.part" "$footage"
  rm -rf "$package"
}

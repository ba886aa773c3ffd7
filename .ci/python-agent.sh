#!/usr/bin/env bash
# Makes a Python present that can run examples/agent-python and test packages/python, and prints its path: the only line
# on stdout. Its packages are kept in the cache folder, anew for other requirements. The folder's `wheels` hold what
# packages/python depends on, so that a test can install it without a registry.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
requirements=("$here/examples/agent-python/requirements.txt" "$here/packages/python/requirements-dev.txt")
folder="${XDG_CACHE_HOME:-$HOME/.cache}/behalf/agent-python-$(cat "${requirements[@]}" | cksum | cut -d' ' -f1)"
python="$folder/bin/python"
install=(install --quiet --disable-pip-version-check "${requirements[@]/#/--requirement=}")

if [[ ! -e "$folder/complete" ]]; then
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "agent-python: Python 3.10 or newer is needed, as python3 on PATH." >&2
    exit 1
  fi
  rm -rf "$folder"
  echo "agent-python: installing $(cat "${requirements[@]}" | tr '\n' ' ')" >&2
  if python3 -c 'import ensurepip, venv' 2>/dev/null; then
    python3 -m venv "$folder" >&2
    "$python" -m pip "${install[@]}" >&2
  else
    # Some distributions ship Python without venv: the packages then go beside it, found by PYTHONPATH.
    python3 -m pip "${install[@]}" --target "$folder/packages" >&2
    mkdir -p "$folder/bin"
    printf '#!/bin/sh\nPYTHONPATH="%s/packages:$PYTHONPATH" exec "%s" "$@"\n' "$folder" "$(command -v python3)" >"$python"
    chmod +x "$python"
  fi
  "$python" -m pip download --quiet --disable-pip-version-check --only-binary :all: --dest "$folder/wheels" aiohttp >&2
  touch "$folder/complete"
fi

printf '%s\n' "$python"

#!/usr/bin/env bash
# Makes livekit-server present, and prints the path of its binary: the only line on stdout.
# No package manager has it, so it is built from its module once and kept in the cache folder.
set -euo pipefail

version=1.13.5
folder="${XDG_CACHE_HOME:-$HOME/.cache}/behalf/livekit-server-$version"
binary="$folder/server"

if [[ ! -x "$binary" ]]; then
  if ! command -v go >/dev/null; then
    echo "livekit-server: Go 1.26 or newer is needed to build v$version, and there is no 'go' on PATH." >&2
    exit 1
  fi
  mkdir -p "$folder"
  echo "livekit-server: building v$version (a few minutes, once)" >&2
  GOBIN="$folder" CGO_ENABLED=0 go install "github.com/livekit/livekit-server/cmd/server@v$version" >&2
fi

printf '%s\n' "$binary"

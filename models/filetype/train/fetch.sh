#!/bin/bash
# Download the packages that packages/*.txt name into CACHE (default ./cache), by name, through the usual clients.
# About 15 GB; what a name does not lead to any more is skipped.
set -u
cd "$(dirname "$0")"
here=$PWD
cache=${1:-$here/cache}
mkdir -p "$cache"/{deb,npm,pypi,cargo,gomod,maven,work}
cache=$(cd "$cache" && pwd)
words() { grep -v '^#' "$here/packages/$1.txt" | tr -s ' \n' '\n'; }

(cd "$cache/deb" && words deb | while read -r p; do apt-get download -qq "$p" 2>/dev/null || echo "missing $p"; done)
node fetch_npm.cjs packages/npm.txt "$cache/npm"
python3 fetch_pypi.py packages/pypi.txt "$cache/pypi"
for c in $(words cargo); do
  d=$cache/work/$c
  mkdir -p "$d/src" && : > "$d/src/lib.rs"
  printf '[package]\nname = "x"\nversion = "0.0.1"\nedition = "2021"\n[dependencies]\n"%s" = "*"\n' "$c" > "$d/Cargo.toml"
  (cd "$d" && CARGO_HOME="$cache/cargo" cargo fetch -q) || echo "missing $c"
done
mkdir -p "$cache/work/go" && cd "$cache/work/go" && { [ -f go.mod ] || go mod init x; }
for m in $(words go); do GOFLAGS=-mod=mod GOMODCACHE="$cache/gomod" go mod download "$m@latest" || echo "missing $m"; done
for a in $(words maven); do
  for kind in jar:sources jar; do
    mvn -q -B -Dmaven.repo.local="$cache/maven" dependency:get "-Dartifact=$a:RELEASE:$kind" -Dtransitive=false > /dev/null || echo "missing $a:$kind"
  done
done

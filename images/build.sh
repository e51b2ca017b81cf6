#!/bin/sh
# Builds the images of the committed code and prints their sizes: images/build.sh [KIND...]
#   REGISTRY, TAG  names are $REGISTRY/<kind>:$TAG, by default yanshan/<kind>:<commit>
#   BASE           default debian:bookworm-slim; where it cannot be pulled, a base is made with debootstrap (as root)
#   WHEELS         folder that keeps fetched packages, by default ~/.cache/yanshan/wheels
#   TENSORRT       version of real TensorRT for the engine image; needs NVIDIA's index in pip's settings
# Packages are fetched by this machine's pip, with its mirrors, proxies and certificates, and reach the build by hash
# over the loopback: no setting of this machine gets into an image.
set -eu
cd "$(dirname "$0")/.."
commit=$(git rev-parse HEAD)
registry=${REGISTRY:-yanshan}
tag=${TAG:-$commit}
wheels=${WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/yanshan/wheels}
python=${PYTHON:-python3.11}
[ $# -gt 0 ] || set -- data training engine release

choose_base() {
    base=${BASE:-debian:bookworm-slim}
    docker image inspect "$base" >/dev/null 2>&1 || docker pull --quiet "$base" >/dev/null 2>&1 && return
    [ -z "${BASE:-}" ] || { echo "BASE=$BASE: neither here nor in a registry that answers" >&2; exit 2; }
    base=yanshan/base:bookworm
    docker image inspect "$base" >/dev/null 2>&1 || { echo "no registry answers: making $base"; images/base.sh "$base"; }
}

fetch_packages() {
    for list in "$context/images/build-tools.txt" "$context/images/$1/requirements.txt"; do
        done_mark=$wheels/$(sha256sum "$list" | cut -c1-16).fetched
        [ -e "$done_mark" ] && continue
        "$python" -m pip download -qq --no-deps --require-hashes --dest "$wheels" --requirement "$list"
        touch "$done_mark"
    done
    [ "$1" != engine ] || [ -z "${TENSORRT:-}" ] ||
        "$python" -m pip download -qq --dest "$wheels" "tensorrt==$TENSORRT"
}

serve_packages() {
    # The same port every time, where it is free: the address is part of what Docker's cache goes by.
    port=$("$python" -c 'import socket
for port in (38741, 0):
    try:
        taken = socket.create_server(("127.0.0.1", port))
        print(taken.getsockname()[1])
        break
    except OSError:
        pass')
    "$python" -m http.server --bind 127.0.0.1 --directory "$wheels" "$port" >/dev/null 2>&1 9>&- &
    trap "kill $!; rm -rf '$context'" EXIT
}

build() {
    licenses=Apache-2.0
    [ "$1" != training ] || licenses="Apache-2.0 AND AGPL-3.0-only"
    docker build --quiet --network host --file "$context/images/Dockerfile" \
        --build-arg "BASE=$base" --build-arg "KIND=$1" \
        --build-arg PIP_NO_INDEX=1 --build-arg "PIP_FIND_LINKS=http://127.0.0.1:$port/" \
        --build-arg "TENSORRT=$([ "$1" != engine ] || echo "${TENSORRT:-}")" \
        --build-arg "COMMIT=$commit" --build-arg "SOURCE=${SOURCE:-unknown}" --build-arg "LICENSES=$licenses" \
        --tag "$registry/$1:$tag" "$context" >/dev/null
    bytes=$(docker image inspect --format '{{.Size}}' "$registry/$1:$tag")
    echo "$registry/$1:$tag $((bytes / 1000000)) MB"
}

context=$(mktemp -d)
git archive "$commit" components pipelines images | tar --extract --directory "$context"
mkdir -p "$wheels"
# One build at a time: two would serve packages from two addresses, and Docker's cache goes by the address.
if command -v flock >/dev/null; then
    exec 9>"$wheels/.lock"
    flock 9
fi
choose_base
serve_packages
for kind in "$@"; do
    fetch_packages "$kind"
    build "$kind"
done

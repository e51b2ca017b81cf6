#!/bin/sh
# Pins what is installed, with hashes: constraints.txt holds everything, <kind>/requirements.txt what one image needs,
# build-tools.txt what turns a source package into a wheel. Run after a change of pyproject.toml;
# `images/lock.sh --upgrade` also takes newer indirect dependencies. Needs uv.
# Index addresses stay out: they belong to whoever installs.
set -eu
cd "$(dirname "$0")/.."

pin() {
    output=$1
    shift
    uv pip compile "$@" --python-version 3.11 --python-platform x86_64-manylinux_2_36 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet --output-file "$output"
}

pin images/constraints.txt pyproject.toml --extra all --extra dev --extra edge --extra rtx "$@"
pin_image() {
    kind=$1
    shift
    mkdir -p "images/$kind"
    pin "images/$kind/requirements.txt" pyproject.toml --constraint images/constraints.txt "$@"
}

pin_image data --extra data
pin_image training --extra training
pin_image engine --extra engine --extra rtx
# The registry's server runs from the release image.
pin_image release --extra release --extra registry
printf 'setuptools\nwheel\n' | pin images/build-tools.txt - --constraint images/constraints.txt

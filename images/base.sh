#!/bin/sh
# Makes the base image from Debian's own packages, for where no registry can be reached: images/base.sh NAME
# Needs root, debootstrap and Docker. MIRROR is the URL of a Debian mirror other than debootstrap's own.
set -eu
name=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

debootstrap --variant=minbase --include=ca-certificates bookworm "$root" ${MIRROR:-} >"$root.log" 2>&1 || {
    tail -n 20 "$root.log" >&2
    exit 4
}
# The same mirror's corrections and security updates.
sed -i -E 'p; s#(.*) bookworm main#\1 bookworm-updates main#p; s#/debian/? bookworm-updates#/debian-security bookworm-security#' \
    "$root/etc/apt/sources.list"
# What Debian's slim image leaves out too.
printf 'path-exclude /usr/share/%s/*\n' doc man info locale >"$root/etc/dpkg/dpkg.cfg.d/slim"
rm -rf "$root.log" "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* \
    "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/debootstrap
tar --create --numeric-owner --directory "$root" . | docker import --change 'CMD ["sh"]' - "$name" >/dev/null

#!/bin/sh
# tools.sh DIR: Docker's own client and daemon from Debian's packages, unpacked into DIR without being installed: the real
# clients that the tests drive us with.
set -eu
dir=$1
[ -x "$dir/usr/bin/docker" ] && exit 0
rm -rf "$dir" && mkdir -p "$dir/deb"
cd "$dir/deb"
apt-get download -qq docker.io containerd runc tini libdevmapper1.02.1
for package in ./*.deb; do dpkg -x "$package" "$dir"; done
rm -rf "$dir/deb"

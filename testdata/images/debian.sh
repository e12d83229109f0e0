#!/bin/sh
# debian.sh OUT.tar: the root file system of debian:bookworm, from Debian's own packages.
set -eu
out=$1
mmdebstrap --quiet --variant=minbase --include=ca-certificates \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$out.tmp.tar" http://deb.debian.org/debian
mv "$out.tmp.tar" "$out"

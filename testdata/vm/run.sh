#!/bin/bash
# run.sh COOPER BUSYBOX.tar CACHE: boots Debian's cloud kernel under qemu (TCG, no KVM needed) with an initramfs that holds
# the binary, and runs check.sh in it: cgroup v2 with every controller and an older kernel than most test machines have.
# The console's output is kept as CACHE/console.log.
set -euo pipefail
cooper=$1 busybox_tar=$2 cache=$3
here=$(cd "$(dirname "$0")" && pwd)
seconds=${COOPER_VM_TIMEOUT:-300}
fail() {
    echo "vm: $* (console: $cache/console.log)" >&2
    exit 1
}
mkdir -p "$cache"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
if [ ! -e "$cache/vmlinuz" ]; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
    mkdir "$root/deb"
    (cd "$root/deb" && apt-get download -qq -o APT::Sandbox::User=root "$package" && dpkg -x ./*.deb x)
    module=$(find "$root/deb/x" -name 'overlay.ko*')
    case $module in
        *.xz) xz -dc "$module" > "$cache/overlay.ko" ;;
        *) cp "$module" "$cache/overlay.ko" ;;
    esac
    # Last and in one go: its presence says that the cache is whole.
    cp "$root"/deb/x/boot/vmlinuz-* "$cache/vmlinuz.part"
    mv "$cache/vmlinuz.part" "$cache/vmlinuz"
    rm -rf "$root/deb"
fi
mkdir -p "$root"/{bin,dev,proc,sys,run,etc,tmp,lib64,data}
cp /bin/busybox "$root/bin/busybox"
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp "$cooper" "$root/bin/cooper"
# A static binary has none.
for library in $(ldd "$cooper" 2>/dev/null | grep -o '/[^ ]*'); do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
cp "$cache/overlay.ko" "$root/overlay.ko"
cp "$busybox_tar" "$root/busybox.tar"
cp "$here/init" "$root/init"
cp "$here/check.sh" "$root/check.sh"
chmod 755 "$root/init" "$root/check.sh"
(cd "$root" && find . | cpio -o -H newc --quiet) > "$cache/initramfs"
: > "$cache/console.log"
set +e
timeout "$seconds" qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 2048 -nographic -nic none -no-reboot \
    -kernel "$cache/vmlinuz" -initrd "$cache/initramfs" -append 'console=ttyS0 quiet panic=-1' < /dev/null \
    | sed -u 's/\r//g' | tee "$cache/console.log" | sed -un '/^vm: /,$p'
status=${PIPESTATUS[0]}
set -e
[ "$status" != 124 ] || fail "not done after $seconds s"
[ "$status" = 0 ] || fail "qemu ended with $status"
grep -q '^vm: Linux' "$cache/console.log" || fail "the machine did not boot"
! grep -q '^not ok: ' "$cache/console.log" || fail "$(grep -c '^not ok: ' "$cache/console.log") checks failed"
grep -q '^vm: all checks passed$' "$cache/console.log" || fail "the checks did not run to their end"

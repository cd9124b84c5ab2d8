#!/usr/bin/env bash
# Runs the unit tests of the kernels on an emulated CPU with AVX-512, VNNI and VBMI, for machines that have none: Bochs starts a
# Debian kernel whose only program is the test binary. What is computed is as on the real thing, speed says nothing.
# usage: scripts/avx512_emulated.sh [name of tests; kernels if none is given]
# Needs Debian 12 and root, or its packages below installed. Two minutes until the tests start, then a hundred times their time.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(bochs bochsbios vgabios isolinux syslinux-common genisoimage cpio busybox-static lz4)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >/dev/null
fi

work=$(mktemp -d)
emulator=
finish() {
    # A polite signal only makes Bochs stop and ask.
    [ -z "$emulator" ] || { kill -9 "$emulator"; wait "$emulator"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

tests=$(cargo test -p fourfold --release --lib --no-run 2>&1 | tee /dev/stderr | sed -nE 's/.*Executable .*\((.*)\)$/\1/p')
[ -x "$tests" ] || { echo "avx512_emulated.sh: cargo named no test binary" >&2; exit 1; }

# The disk: a kernel, and in its memory the tests and the libraries they are linked with.
image=$(apt-cache depends linux-image-cloud-amd64 | sed -nE 's/ *Depends: (linux-image-.*)/\1/p' | head -n 1)
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$image" && dpkg -x "$image"_*.deb kernel)
root=$work/root
mkdir -p "$root/bin" "$root/proc" "$work/iso/isolinux"
cp /bin/busybox "$root/bin/"
for program in sh grep tr; do ln -s busybox "$root/bin/$program"; done
strip -o "$root/bin/tests" "$tests"
for library in $(ldd "$tests" | grep -oE '/[^ ]+'); do
    install -D "$(realpath "$library")" "$root$library"
done
cat >"$root/init" <<EOF
#!/bin/sh
/bin/busybox mount -t proc proc /proc
echo "emulated:\$(grep -m 1 '^flags' /proc/cpuinfo | grep -oE ' avx512[a-z_]*' | tr -d '\n')"
RUST_TEST_THREADS=1 /bin/tests ${1:-kernels}
echo "status \$?"
/bin/busybox sleep 1000
EOF
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | lz4 -lq >"$work/iso/initrd")
cp "$work"/kernel/boot/vmlinuz-* "$work/iso/vmlinuz"
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 "$work/iso/isolinux/"
# The features named here are those with which Bochs 2.7 and this kernel get lost while starting: saved states whose size differs,
# page tables and string copies. A program sees them all the same.
features=xsaves,xsavec,pku,aperfmperf,pcid,invpcid,invpcid_single,la57,smap,smep,erms,fsrm,rep_good,bmi1,bmi2,fsgsbase
cat >"$work/iso/isolinux/isolinux.cfg" <<EOF
default tests
label tests
 kernel /vmlinuz
 append initrd=/initrd console=ttyS0 loglevel=3 nokaslr mitigations=off tsc=reliable nowatchdog acpi=off nopcid no5lvl nopti split_lock_detect=off nopku noxsaves lsm= clearcpuid=$features
EOF
genisoimage -quiet -o "$work/disk.iso" -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 \
    -boot-info-table "$work/iso"
cat >"$work/bochsrc" <<EOF
display_library: rfb, options="timeout=0" # a picture for nobody
config_interface: textconfig
cpu: model=corei7_icelake_u, count=1, ips=50000000
megs: 1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$work/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$work/serial
log: $work/log
panic: action=fatal
error: action=report
info: action=ignore
EOF
echo c >"$work/commands" # Debian's Bochs has a debugger, which waits for the word to continue.
touch "$work/serial"
bochs -q -f "$work/bochsrc" -rc "$work/commands" </dev/null >"$work/said" 2>&1 &
emulator=$!

# The kernel's output until the tests have ended. `tail` may be told that nobody reads on, which is no failure.
(tail -f --pid "$emulator" "$work/serial" || true) | sed -u 's/\r$//; /^status /q' | tee "$work/printed"
status=$(sed -n 's/^status //p' "$work/printed")
exit "${status:-1}"

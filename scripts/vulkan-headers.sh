#!/usr/bin/env bash
# Unpacks the Vulkan headers of the Debian release after this one into DIR: those of Debian 12 are too old for ggml.
# They come from the package source that this machine already uses; nothing is installed. Then: export VULKAN_SDK=DIR
set -euo pipefail

dir=${1:?usage: vulkan-headers.sh DIR}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mirror=$(grep -rhsE '^(URIs:|deb )' /etc/apt/sources.list /etc/apt/sources.list.d/ |
    grep -oE 'https?://[^ ]+/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
if [ -z "$mirror" ]; then
    echo "vulkan-headers.sh: no Debian package source is configured here" >&2
    exit 1
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keys] $mirror trixie main" >"$work/sources.list"
mkdir -p "$work/lists/partial"
apt=(apt-get -qq "-oDir::Etc::SourceList=$work/sources.list" -oDir::Etc::SourceParts=/dev/null
    "-oDir::State::Lists=$work/lists")
"${apt[@]}" update
(cd "$work" && "${apt[@]}" download libvulkan-dev 2>/dev/null)

mkdir -p "$dir/lib" "$work/package"
dpkg -x "$work"/libvulkan-dev_*.deb "$work/package"
cp -r "$work/package/usr/include" "$dir/"
loader=$(find /usr/lib -name libvulkan.so -o -name libvulkan.so.1 | sort | head -n 1)
ln -sf "$loader" "$dir/lib/libvulkan.so"

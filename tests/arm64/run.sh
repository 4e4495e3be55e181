#!/usr/bin/env bash
# 64-bit ARM without the hardware: a Debian of that architecture, run by QEMU. As root. See README.md beside this.
#
#   run.sh tests [PYTEST ARGUMENTS]   what runs on a device passes its tests
#   run.sh gate                       on a Cortex-A72 (ARMv8.0) nothing meets an instruction that it does not know
#   run.sh sigill                     the same gate catches what it is for: torch 2.10 dies in it
#   run.sh image                      Dockerfile.arm64 is built, and its daemon serves an image
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${UNDERSTUDY_TEST_CACHE:-$HOME/.cache/understudy-tests}
base=$cache/bookworm-arm64
mirror=http://deb.debian.org/debian

need() {
  for tool in "$@"; do
    command -v "$tool" >/dev/null || {
      echo "run.sh: $tool is missing: apt-get install debootstrap qemu-user-static binfmt-support buildah" >&2
      exit 2
    }
  done
  [ "$(id -u)" = 0 ] || { echo "run.sh: run as root: it makes a system of its own and changes into it" >&2; exit 2; }
}

# The kernel hands ARM programs to QEMU; the flag F lets it do so inside another root, too.
register_qemu() {
  mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
}

make_base() {
  [ -d "$base" ] && return
  echo "run.sh: making $base, once; it takes some minutes"
  rm -rf "$base.tmp"
  debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,libgomp1 bookworm "$base.tmp" "$mirror" \
    >"$base.log"
  chroot "$base.tmp" /debootstrap/debootstrap --second-stage >>"$base.log"
  mv "$base.tmp" "$base"
}

# packages NAME PIP-ARGUMENTS...: aarch64 wheels, unpacked by this machine's pip into the cache.
packages() {
  local folder=$cache/$1
  shift
  [ -d "$folder" ] && return
  rm -rf "$folder.tmp"
  "${PYTHON:-python3}" -m pip install --quiet --disable-pip-version-check --target "$folder.tmp" --no-deps \
    --only-binary=:all: --no-compile --implementation cp --python-version 3.11 --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_27_aarch64 --platform manylinux_2_26_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 "$@"
  mv "$folder.tmp" "$folder"
}

# The lists' hashes are part of the names, so that a changed list is installed anew.
device_packages() {
  device=device-$(cat "$root/firmware_profiles/arm64/device.txt" "$here/test.txt" | sha256sum | cut -c1-12)
  packages "$device" --require-hashes -r "$root/firmware_profiles/arm64/device.txt" -r "$here/test.txt"
}

train_packages() {
  train=train-$(sha256sum <"$root/firmware_profiles/arm64/train.txt" | cut -c1-12)
  packages "$train" --require-hashes -r "$root/firmware_profiles/arm64/train.txt"
}

# inside PACKAGES[:PACKAGES] COMMAND...: in the ARM system, on the processor $QEMU_CPU; mounts end with the command.
# There is no /sys: the library that LiteRT and torch look at the processor with crashes when it finds another one there.
inside() {
  local path="" folder
  for folder in ${1//:/ }; do path=$path:/cache/$folder; done
  shift
  mkdir -p "$base/checkout" "$base/cache"
  # shellcheck disable=SC2016
  unshare --mount --propagation private sh -c '
    mount --bind "$1" "$3/checkout" && mount --bind "$2" "$3/cache" && mount --bind /proc "$3/proc" \
      && mount --bind /dev "$3/dev" && mount -t tmpfs tmpfs "$3/tmp" || exit 2
    base=$3; shift 3
    exec chroot "$base" /usr/bin/env -i "$@"
  ' inside "$root" "$cache" "$base" \
    PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp LANG=C.UTF-8 QEMU_CPU="${QEMU_CPU:-max}" PYTHONDONTWRITEBYTECODE=1 \
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONPATH="/checkout:/checkout/tests$path" "$@"
}

tests() {
  device_packages
  train_packages
  [ $# -gt 0 ] || set -- tests/agent/core tests/agent/adapters/test_{inference,sample_store,outbox,state_file,seen}.py \
    tests/agent/adapters/test_{model_store,intake,judge,pulse,job_folder}.py tests/agent/trainer/test_head_tier.py \
    tests/transfer/test_{wire,bundle,signing,head,preprocess,tflite,tflite_writer,interpreter,notify}.py
  inside "$device:$train" sh -c 'cd /checkout && exec python3 -m pytest -q -p no:cacheprovider -o timeout=900 "$@"' tests "$@"
}

gate() {
  device_packages
  train_packages
  QEMU_CPU=cortex-a72 inside "$device:$train" python3 /checkout/tests/arm64/gate.py
}

# 132 = 128 + SIGILL
sigill() {
  device_packages
  train_packages
  packages torch-2.10.0 torch==2.10.0
  local status=0
  QEMU_CPU=cortex-a72 inside "$device:torch-2.10.0:$train" python3 -c 'import torch; torch.ones(8, 8) @ torch.ones(8, 8)' \
    || status=$?
  [ "$status" = 132 ] || { echo "run.sh: torch 2.10 ended with $status, not of an illegal instruction (132)" >&2; exit 1; }
  echo "torch 2.10.0 on a Cortex-A72: illegal instruction, as expected"
}

case ${1:-} in
  tests | gate | sigill)
    need debootstrap update-binfmts unshare chroot
    register_qemu
    mkdir -p "$cache"
    make_base
    "$@"
    ;;
  image)
    need debootstrap update-binfmts buildah
    register_qemu
    mkdir -p "$cache"
    make_base
    exec "$here/image.sh" "$base"
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac

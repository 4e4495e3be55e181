#!/usr/bin/env bash
# Builds Dockerfile.arm64 and has its daemon serve an image: `run.sh image`, which gives the ARM system as the argument.
# Where no registry of images can be reached, Debian's own systems take the place of python:3.11-slim.
set -euo pipefail

arm_base=$1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=$(dirname "$arm_base")
build_base=$cache/bookworm-build
python=${PYTHON:-python3}
scene=$(mktemp -d)
export BUILDAH_ISOLATION=chroot
container=""
mounted=""
daemon=""
# shellcheck disable=SC2317  # the trap calls it
cleanup() {
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  rm -rf "$scene"
}
trap cleanup EXIT

make_build_base() {
  [ -d "$build_base" ] && return
  rm -rf "$build_base.tmp"
  debootstrap --variant=minbase --include=python3,python3-pip,ca-certificates bookworm "$build_base.tmp" >"$build_base.log"
  mv "$build_base.tmp" "$build_base"
}

# image NAME ARCHITECTURE FOLDER
image() {
  buildah images --quiet "$1" >/dev/null 2>&1 && return
  local made
  made=$(buildah from scratch)
  buildah copy --quiet "$made" "$3" / >/dev/null
  buildah config --arch "$2" --os linux "$made"
  buildah commit --quiet --rm --format docker "$made" "$1" >/dev/null
}

# buildah 1.28 does not know it by itself.
arguments=(--build-arg "BUILDPLATFORM=linux/$(dpkg --print-architecture)")
if ! timeout 60 buildah pull --quiet --arch arm64 docker.io/library/python:3.11.13-slim-bookworm >/dev/null 2>&1; then
  echo "image.sh: no registry can be reached; the base is Debian's Python 3.11"
  make_build_base
  image localhost/understudy-build amd64 "$build_base"
  image localhost/understudy-base arm64 "$arm_base"
  arguments+=(--build-arg BUILD_BASE=localhost/understudy-build --build-arg BASE=localhost/understudy-base)
fi
# What this machine's pip needs to reach its index, the build's needs, too.
for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ ! -e "$file" ] || arguments+=(--volume "$file:$file:ro")
done

# build EXTRAS: the image and a container of it.
build() {
  local name=localhost/understudy-agent-${1:-head}
  [ -z "$container" ] || buildah rm "$container" >/dev/null
  buildah build --quiet --layers --platform linux/arm64 --isolation chroot --format docker --pull=never \
    --build-arg EXTRAS="$1" "${arguments[@]}" -f "$root/Dockerfile.arm64" -t "$name" "$root" >/dev/null
  container=$(buildah from --pull=never --platform linux/arm64 "$name")
  mounted=$(buildah mount "$container")
  echo "$name: packages and program $(du -sm "$mounted/opt" | cut -f1) MiB, with its base $(du -sm "$mounted" | cut -f1) MiB"
}

# As the image's user with its environment, but without /sys, which `buildah run` would mount: the library that LiteRT and
# torch look at the processor with crashes under QEMU when it finds another processor there.
in_container() {
  local environment
  read -ra environment <<<"$(buildah inspect --format '{{range .OCIv1.Config.Env}}{{.}} {{end}}' "$container")"
  mkdir -p "$mounted/scene"
  # shellcheck disable=SC2016
  exec unshare --mount --propagation private sh -c '
    mount --bind "$1" "$2/scene" && mount --bind /proc "$2/proc" && mount --bind /dev "$2/dev" || exit 2
    mounted=$2; shift 2
    exec chroot --userspec=10001:10001 "$mounted" /usr/bin/env -i "$@"
  ' in_container "$scene" "$mounted" "${environment[@]}" "$@"
}

# The health check's own command, with this configuration.
healthy() {
  (in_container sh -c "understudy agent status --json --config /scene/agent.yaml | grep -q '\"serving\": true'")
}

PYTHONPATH=$root:$root/tests "$python" "$here/scene.py" "$scene"
build ""
echo "serving with it, emulated"
in_container understudy agent run --config /scene/agent.yaml &
daemon=$!
for _ in $(seq 120); do
  kill -0 "$daemon"
  if grep -qs '"label"' "$scene/state/predictions.jsonl" && healthy; then break; fi
  sleep 3
done
healthy
echo "healthy, and it has said: $(grep -o '"label": *"[a-z]*"' "$scene/state/predictions.jsonl")"
# The signal that STOPSIGNAL names.
kill -TERM "$daemon"
wait "$daemon"
daemon=""
if healthy; then echo "image.sh: stopped, and still healthy?" >&2; exit 1; fi
build train
echo "the same with torch"
in_container python3 -c 'import torch; print("torch", torch.__version__, "computes:", (torch.ones(2, 2) @ torch.ones(2, 2)).tolist())'

"""A virtual machine whose power can be cut: Debian's kernel, this system's files (read only), and a disk of its own.

Nothing is installed into it: the guest sees the host's root over 9p, under a layer in memory. Only `/mnt` is a real
disk, an ext4 file system on a virtio drive with a write cache, as a memory card has. Killing QEMU takes the guest's
memory away, page cache and journal included: what the guest's kernel had not sent to the drive is gone.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4", "9pnet_virtio", "9p", "overlay")
DISK_MIB = 512
MEMORY_MIB = 1024
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /dev /lower /layer /root
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in $($b cat /modules/order); do $b insmod /modules/$module || echo "cannot load $module"; done
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /lower
$b mount -t tmpfs tmpfs /layer
$b mkdir /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /root
$b mount -t ext4 /dev/vda /root/mnt || echo "the disk cannot be mounted"
for folder in proc sys dev; do $b mount --move /$folder /root/$folder; done
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONPATH={root}:{root}/tests OPENBLAS_NUM_THREADS=1
$b chroot /root {python} {guest} {scene} "$($b cat /root/proc/cmdline)"
echo "the guest's program has ended"
$b poweroff -f
"""


class MachineError(RuntimeError):
    """There can be no machine here; the text says what is missing."""


@dataclass(frozen=True)
class Machine:
    """`folder` holds kernel, initial file system and disk. `accelerated`: by KVM; without, all is emulated."""

    folder: Path
    accelerated: bool

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    def boot(self, number: int) -> subprocess.Popen[bytes]:
        """Its console is the process's standard output. Kill the process to cut the power."""
        command = ["qemu-system-x86_64", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
        command += ["-accel", "kvm", "-cpu", "host"] if self.accelerated else ["-accel", "tcg", "-cpu", "max"]
        command += ["-smp", "2", "-m", str(MEMORY_MIB)]
        command += ["-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd.gz")]
        command += ["-append", f"console=ttyS0 quiet panic=-1 boot={number}"]
        command += ["-drive", f"file={self.disk},format=raw,if=virtio,cache=writeback"]
        command += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def prepare(
    folder: Path, python: Path, root: Path, scene: Path, kernel: Path | None, modules: Path | None, *, kvm: bool
) -> Machine:
    """Everything a machine needs, in `folder`; an empty disk. `kernel` and `modules` (its lib/modules/VERSION) are
    fetched from Debian where they are not given. Raises MachineError."""
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static")):
        if shutil.which(program) is None:
            raise MachineError(f"{program} is not installed: apt-get install --no-install-recommends {package}")
    folder.mkdir(parents=True, exist_ok=True)
    if kernel is None or modules is None:
        kernel, modules = _fetch(folder)
    shutil.copy(kernel, folder / "vmlinuz")
    init = INIT.format(python=python, root=root, guest=root / "tests" / "vm" / "guest.py", scene=scene)
    _initial(folder, modules, init)
    machine = Machine(folder, kvm)
    with machine.disk.open("wb") as disk:
        disk.truncate(DISK_MIB * 2**20)
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", str(machine.disk)], check=True)
    return machine


def _fetch(folder: Path) -> tuple[Path, Path]:
    """Debian's kernel for the running release: a package that is unpacked, not installed."""
    kept = folder / "kernel"
    if not (kept / "boot").is_dir():
        kept.mkdir(exist_ok=True)
        told = subprocess.run(
            ["apt-cache", "depends", "linux-image-amd64"], capture_output=True, text=True, check=False
        )
        names = [line.split()[-1] for line in told.stdout.splitlines() if "Depends:" in line]
        if not names:
            raise MachineError("apt knows no linux-image-amd64: give --kernel and --modules")
        subprocess.run(["apt-get", "download", names[0]], cwd=kept, check=True, capture_output=True)
        (package,) = kept.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(kept)], check=True)
        package.unlink()
    (kernel,) = (kept / "boot").glob("vmlinuz-*")
    (modules,) = (kept / "lib" / "modules").iterdir()
    return kernel, modules


def _initial(folder: Path, modules: Path, init: str) -> None:
    """The initial file system: busybox, the modules in the order in which they need each other, and `init`."""
    tree = folder / "initrd"
    shutil.rmtree(tree, ignore_errors=True)
    for name in ("bin", "modules"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, tree / "bin" / "busybox")
    needed = _in_order(modules)
    for module in needed:
        shutil.copy(modules / module, tree / "modules" / Path(module).name)
    (tree / "modules" / "order").write_text("\n".join(Path(module).name for module in needed))
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)
    files = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["busybox", "cpio", "-o", "-H", "newc"], cwd=tree, input=files.encode(), capture_output=True, check=True
    )
    (folder / "initrd.gz").write_bytes(gzip.compress(packed.stdout, 1))


def _in_order(modules: Path) -> list[str]:
    dependencies = modules / "modules.dep"
    if not dependencies.exists():
        base = modules.parents[2]
        subprocess.run(["busybox", "depmod", "-b", str(base), modules.name], check=True, capture_output=True)
    lines = (line.partition(":") for line in dependencies.read_text().splitlines())
    needs = {Path(path).name.removesuffix(".ko").replace("-", "_"): (path, rest.split()) for path, _, rest in lines}
    order: list[str] = []

    def add(path: str) -> None:
        for other in needs[Path(path).name.removesuffix(".ko").replace("-", "_")][1]:
            if other not in order:
                add(other)
        if path not in order:
            order.append(path)

    for name in MODULES:
        if name in needs:  # or it is built in
            add(needs[name][0])
    return order

"""File systems in image files, and what a power cut leaves of them.

Rules: what the image holds at one moment is what the platter would hold: the file system has handed
it to its disk, and the rest was only in memory. A cut is a copy of the image, mounted beside the
original, so that its journal is replayed as after a real cut; the original lives on. A copy during
which the image changed is made again.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.torture.figure import CannotRunError

_MIB = 1024 * 1024
_PATH = f"{os.defpath}:/usr/sbin:/sbin"
_MEMORY = Path("/dev/shm")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A kind of file system: the smallest image that its mkfs takes, and how to mount a copy."""

    kind: str
    megabytes: int
    options: str = ""
    has_commit_interval: bool = True


FILE_SYSTEMS = (
    FileSystem("ext4", 24),
    FileSystem("xfs", 300, "nouuid", has_commit_interval=False),
    FileSystem("btrfs", 110),
)


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system; `folder` is where."""

    system: FileSystem
    image: Path
    folder: Path

    def sync(self) -> None:
        """Bring everything to the platter, of this file system alone."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(fd):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(fd)

    def copy(self, to: Path) -> Path:
        """Cut the power now; returns an image of what was on the platter, for `mounted`."""
        for _ in range(100):
            before = self.image.stat().st_mtime_ns
            _call("cp", "--sparse=always", self.image, to)
            if self.image.stat().st_mtime_ns == before:
                return to
        raise RuntimeError(f"{self.image} changes all the time")

    @contextmanager
    def cut(self) -> Iterator[Path]:
        """Cut the power now, and yield where what was on the platter is mounted."""
        copy = self.copy(self.image.with_suffix(".cut"))
        try:
            with mounted(self.system, copy, options=self.system.options) as folder:
                yield folder
        finally:
            copy.unlink()


@contextmanager
def workshop() -> Iterator[Path]:
    """Yield an empty folder, in memory where that can be: images are written over and over."""
    parent = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="mdconnector-disks-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def made(system: FileSystem, folder: Path, *, commit_seconds: int | None = None) -> Iterator[Disk]:
    """Make a new file system below a folder, and mount it. Raises CannotRunError."""
    require_loop_devices()
    if shutil.which(f"mkfs.{system.kind}", path=_PATH) is None:
        raise CannotRunError(f"there is no mkfs.{system.kind}")
    label = f"{system.kind}-{commit_seconds or 'default'}"
    image = folder / f"{label}.img"
    with image.open("wb") as file:
        file.truncate(system.megabytes * _MIB)
    _call(f"mkfs.{system.kind}", "-q", image)
    options = f"commit={commit_seconds}" if commit_seconds else ""
    try:
        with mounted(system, image, options=options) as place:
            place.chmod(0o755)
            yield Disk(system, image, place)
    finally:
        image.unlink(missing_ok=True)


@contextmanager
def mounted(system: FileSystem, image: Path, *, options: str = "") -> Iterator[Path]:
    """Mount an image beside it. Raises CannotRunError where this kernel does not."""
    words = f"loop,{options}" if options else "loop"
    place = Path(tempfile.mkdtemp(prefix=f"{system.kind}-", dir=image.parent))
    with ExitStack() as stack:
        stack.callback(place.rmdir)
        try:
            _call("mount", "-t", system.kind, "-o", words, image, place)
        except subprocess.CalledProcessError as error:
            why = f"{system.kind} cannot be mounted: {error.stderr.strip()}"
            raise CannotRunError(why) from None
        stack.callback(_unmount, place)
        yield place


def _unmount(place: Path) -> None:
    try:
        _call("umount", place)
    except subprocess.CalledProcessError:
        _call("umount", "--lazy", place)


def _call(program: str, *arguments: str | Path) -> None:
    found = shutil.which(program, path=_PATH)
    if found is None:
        raise CannotRunError(f"there is no {program}")
    subprocess.run([found, *arguments], check=True, capture_output=True, text=True)


def require_loop_devices() -> None:
    """Raise CannotRunError where nothing can be mounted."""
    if os.geteuid() != 0:
        raise CannotRunError("only root mounts images")
    if not Path("/dev/loop-control").exists():
        raise CannotRunError("there are no loop devices")


def available() -> tuple[dict[str, FileSystem], dict[str, str]]:
    """Return the kinds of file systems that can be used here, and why others cannot."""
    require_loop_devices()
    found, missing = {}, {}
    with workshop() as folder:
        for system in FILE_SYSTEMS:
            try:
                with made(system, folder):
                    found[system.kind] = system
            except CannotRunError as error:
                missing[system.kind] = str(error)
    if not found:
        raise CannotRunError("; ".join(missing.values()))
    return found, missing

"""The disk of the data: a small file system of the round's own where one can be mounted, else a plain folder.

ext4 on a loop device, whose power can be cut: what was not synced by then is gone. Where that is not allowed, a tmpfs.
"""

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

CHUNK = bytes(1 << 20)
LET_GO_WITHIN_S = 10.0
# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: every write fails from now on, and the journal is not flushed.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, struct.pack("I", 2)


class Disk:
    """Of `mib` MiB at `folder`; `kind` is ext4, tmpfs or folder."""

    def __init__(self, folder: Path, mib: int):
        self.folder, self._image = folder, folder.with_suffix(".img")
        folder.mkdir()
        self.kind = "folder"
        with self._image.open("wb") as image:
            image.truncate(mib << 20)
        if _run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(self._image)) and self._mount_image():
            self.kind = "ext4"
        elif _run("mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "torture", str(folder)):
            self.kind = "tmpfs"

    def fill(self) -> None:
        """To the last byte."""
        try:
            with self._ballast.open("wb", buffering=0) as ballast:
                free = os.statvfs(self.folder)
                os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize * 9 // 10)
                ballast.seek(0, os.SEEK_END)
                while ballast.write(CHUNK):
                    pass
        except OSError:
            pass

    def make_room(self) -> None:
        try:
            self._ballast.unlink(missing_ok=True)
            # Or the next cut of the power brings it back for good.
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise RuntimeError(f"the ballast cannot be removed: {error}") from error

    def read_only(self, on: bool) -> bool:
        """Whether it could be done: not while a file is open to be written."""
        return _run("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder))

    def cut_power(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(folder)

    def restore_power(self) -> None:
        """Its journal is replayed. Nobody may have a file of it open."""
        deadline = time.monotonic() + LET_GO_WITHIN_S
        while not _run("umount", str(self.folder)):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.folder} cannot be unmounted")
            time.sleep(0.05)
        if not self._mount_image():
            raise RuntimeError(f"{self.folder} cannot be mounted again")

    def unmount(self) -> None:
        if self.kind != "folder":
            # Lazy: a process that is just dying may still hold a file.
            _run("umount", str(self.folder)) or _run("umount", "--lazy", str(self.folder))
            self.kind = "folder"

    def _mount_image(self) -> bool:
        return _run("mount", "-o", "loop", str(self._image), str(self.folder))

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"


def _run(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0
    except OSError:
        return False

"""The disk of the data: a small file system of the round's own where one can be mounted, else a plain folder."""

import subprocess
from pathlib import Path

CHUNK = bytes(1 << 20)


class Disk:
    """A tmpfs of `mib` MiB at `folder`; `mounted` says whether it is one."""

    def __init__(self, folder: Path, mib: int):
        self.folder = folder
        folder.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "torture", str(folder)]
        self.mounted = subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """To the last byte."""
        try:
            with self._ballast.open("wb", buffering=0) as ballast:
                while ballast.write(CHUNK):
                    pass
        except OSError:
            pass

    def make_room(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def read_only(self, on: bool) -> bool:
        """Whether it could be done: not while a file is open to be written."""
        argv = ["mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder)]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        if self.mounted:
            # Lazy: a process that is just dying may still hold a file.
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)
            self.mounted = False

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

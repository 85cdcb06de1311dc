"""A clock on the wall that can be set for some processes: libfaketime."""

from pathlib import Path

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


def library() -> Path | None:
    return next(Path("/").glob(LIBRARIES.removeprefix("/")), None)


class Clock:
    """Goes right until it is set; the monotonic clock is left alone."""

    def __init__(self, folder: Path, library: Path):
        self._file, self._library = folder / "clock", library
        self.set("+0")

    def set(self, offset: str) -> None:
        """Off by so much: `+1d`, `-1d`, `+0`."""
        after = self._file.with_suffix(".next")
        after.write_text(offset)
        after.rename(self._file)

    def env(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

"""python3 -m torture, as scripts/torture.sh calls it."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bench import processes

from . import clock
from .round import Outcome, Round


class Sums:
    """Over all rounds."""

    def __init__(self) -> None:
        self.rounds = Counter()
        self.struck: Counter = Counter()
        self.sums: Counter = Counter()
        self.wrong = False

    def add(self, buffer: str, outcome: Outcome) -> None:
        verdict = outcome.verdict
        self.rounds[buffer] += 1
        self.struck += outcome.struck
        self.sums.update(
            acknowledged=verdict.kept, published=verdict.published, lost=verdict.lost, doubled=verdict.doubled
        )
        self.sums.update(requests=outcome.requests, restarts=outcome.restarts, letters=outcome.retried_letters)
        self.sums.update(readings=outcome.readings, looked_for=outcome.looked_for)
        self.wrong = self.wrong or bool(verdict.wrong)

    def render(self) -> str:
        lines = [f"rounds        {sum(self.rounds.values())} ({', '.join(f'{n} {b}' for b, n in self.rounds.items())})"]
        lines.append(f"faults        {sum(self.struck.values())}")
        lines += [f"              {count:5} {name}" for name, count in sorted(self.struck.items())]
        lines.append(f"requests      {self.sums['requests']}")
        lines.append(f"restarts      {self.sums['restarts']}")
        lines.append(f"readings      {self.sums['readings']} ({self.sums['looked_for']} heartbeats looked for in them)")
        lines.append(f"dead letters  {self.sums['letters']} (retried)")
        lines += [f"{name:13} {self.sums[name]}" for name in ("acknowledged", "published", "lost", "doubled")]
        return "\n".join(lines)


def main() -> int:
    options = _options()
    # As Ctrl-C does, so that everything is cleaned up by one path.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="torture.", dir=options.work)).resolve()
    sums, keep = Sums(), True
    print(f"seed          {options.seed}", flush=True)
    try:
        keep = not _run(options, work, sums)
    except processes.Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
    except KeyboardInterrupt:
        keep = False
        print(sums.render())
        return 128 + signal.SIGINT
    finally:
        processes.end_all()
        if keep:
            print(f"everything is left in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(sums.render())
    return int(keep)


def _run(options: argparse.Namespace, work: Path, sums: Sums) -> bool:
    """Whether nothing was wrong."""
    faketime = clock.library()
    if faketime is None:
        print("SKIPPED: clocks that are set ahead and back (libfaketime is not installed)", file=sys.stderr)
    until = time.monotonic() + options.minutes * 60
    number = options.first
    buffers = ("redis", "embedded")
    # Of each buffer one at least.
    while number < options.first + len(buffers) or time.monotonic() < until:
        buffer = buffers[number % len(buffers)]
        folder = work / f"{number:04}-{buffer}"
        folder.mkdir()
        round_ = Round(options.systole, folder, f"{options.seed}/{number}", buffer == "redis", options.seconds, faketime)
        try:
            outcome = round_.run()
            if number == options.first and round_.disk.kind != "ext4":
                what = "power cuts" if round_.disk.kind == "tmpfs" else "power cuts, disk full and read-only"
                print(f"SKIPPED: {what} (no ext4 on a loop device can be mounted)", file=sys.stderr)
            if outcome.verdict.wrong and round_.disk.kind != "folder":
                shutil.copytree(round_.fleet.data, folder / "data", ignore=shutil.ignore_patterns("*.sock"))
        finally:
            round_.close()
        sums.add(buffer, outcome)
        _tell(number, buffer, outcome)
        if outcome.verdict.wrong:
            return False
        shutil.rmtree(folder, ignore_errors=True)
        number += 1
    return True


def _tell(number: int, buffer: str, outcome: Outcome) -> None:
    verdict, faults = outcome.verdict, sum(outcome.struck.values())
    line = f"round {number:<4} {buffer:9} {faults:3} faults, {verdict.kept} acknowledged, {verdict.published} published"
    print(f"{line}, {verdict.lost} lost, {verdict.doubled} doubled", flush=True)
    for wrong in verdict.wrong:
        print(f"  WRONG: {wrong}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture")
    parser.add_argument("--systole", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the folder of the run is made")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--seconds", type=float, default=20.0, help="of load in a round")
    parser.add_argument("--first", type=int, default=0, help="the number of the first round")
    return parser.parse_args()


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())

"""python3 -m bench, as scripts/bench.sh calls it."""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from . import drain, growth, intake, lag, machine, merging, pod, processes, readers, table, whole
from .bench import Bench, Programs
from .processes import Failed

STAGES = (intake.run, drain.run, merging.run, growth.run, whole.run, pod.run, lag.run, readers.run)
SCENARIOS = range(1, 13)


def main() -> int:
    options = _options()
    # As Ctrl-C does, so that everything is cleaned up by one path.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    work = Path(tempfile.mkdtemp(prefix="bench.", dir=options.work)).resolve()
    programs = Programs(options.systole, options.load, options.limit, options.python)
    bench = Bench(programs, work, options.rounds, options.only)
    try:
        _run(bench, work, options.json)
        return 0
    except Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        processes.end_all()
        shutil.rmtree(work, ignore_errors=True)


def _run(bench: Bench, work: Path, json_file: Path | None) -> None:
    began = time.monotonic()
    where = machine.describe(work)
    for stage in STAGES:
        stage(bench)
    took_s = time.monotonic() - began
    print(table.render(bench.report, where, bench.rounds, took_s))
    if json_file is not None:
        lines = [line.as_json() for line in bench.report.measured()]
        skipped = {str(number): reason for number, reason in bench.report.skipped.items()}
        whole = {"machine": where, "rounds": bench.rounds, "took_s": took_s, "lines": lines, "skipped": skipped}
        json_file.write_text(json.dumps(whole, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench")
    for program in ("systole", "load", "limit", "python"):
        parser.add_argument(f"--{program}", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where folders of the run are made")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=_rounds, default=5)
    parser.add_argument("--only", type=_scenarios, default=frozenset(SCENARIOS))
    return parser.parse_args()


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of rounds; at least 1 is needed")
    return int(text)


def _scenarios(text: str) -> frozenset[int]:
    known = {str(number): number for number in SCENARIOS}
    unknown = [word for word in text.split(",") if word not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no scenario {', '.join(unknown)}; there are 1 to {max(SCENARIOS)}")
    return frozenset(known[word] for word in text.split(","))


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())

"""The table on standard output."""

from .result import Line, Report

# Headings; those in LEFT hold words, the others numbers.
HEADINGS = "# scenario durability figure limit unit ratio min max aim MiB also".split()
LEFT = {"scenario", "durability", "unit", "aim", "also"}


def render(report: Report, machine: dict, rounds: int, took_s: float) -> str:
    rows = [_row(line) for line in report.measured()]
    widths = {name: max([len(name), *(len(row[name]) for row in rows)]) for name in HEADINGS}
    rule = {name: "-" * width for name, width in widths.items()}
    text = [_aligned(row, widths) for row in ({name: name for name in HEADINGS}, rule, *rows)]
    text += [
        "",
        "Figure, limit and what is also seen: medians of the rounds. Ratio: median, min and max of the rounds' own.",
        "MiB: the most that was resident of the process measured, in any round.",
        f"Rounds: {rounds}. It took {took_s:.0f} s.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}",
        f"Files: {machine['file_system']}",
        f"Load average before: {machine['load_before']} (near 0 on a machine that does nothing else)",
    ]
    text += [f"SKIPPED: scenario {number}: {reason}" for number, reason in sorted(report.skipped.items())]
    if report.skipped:
        text.append(f"{len(report.skipped)} skipped")
    return "\n".join(text)


def _row(line: Line) -> dict[str, str]:
    row = dict.fromkeys(HEADINGS, "") | {
        "#": str(line.scenario),
        "scenario": line.name,
        "durability": line.durability,
        "figure": number(line.figure()),
        "unit": line.unit,
        "aim": line.aim,
        "also": ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in line.more().items()),
    }
    if (limit := line.limit()) is not None:
        row["limit"] = number(limit)
    if (ratios := line.ratios()) is not None:
        row |= zip(("ratio", "min", "max"), (f"{ratio:.2f}" for ratio in ratios), strict=True)
    if (rss_kib := line.peak_rss_kib()) is not None:
        row["MiB"] = f"{rss_kib / 1024:.0f}"
    return row


def number(value: float) -> str:
    """With as many digits as mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _aligned(row: dict[str, str], widths: dict[str, int]) -> str:
    cells = (row[name].ljust(width) if name in LEFT else row[name].rjust(width) for name, width in widths.items())
    return "  ".join(cells).rstrip()

"""The table on standard output."""

from .result import Line, Report

HEADINGS = ("#", "scenario", "durability", "figure", "limit", "unit", "ratio", "min", "max", "aim", "MiB", "also (medians)")
LEFT = {"scenario", "durability", "unit", "aim", "also (medians)"}


def render(report: Report, machine: dict, rounds: int, took_s: float) -> str:
    rows = [HEADINGS, *(_row(line) for line in report.measured())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rows.insert(1, tuple("-" * width for width in widths))
    text = [_aligned(row, widths) for row in rows]
    text += ["", f"machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}"]
    text += [f"files:   {machine['file_system']}"]
    text += [f"rounds:  {rounds}; figure, limit and ratio are medians, min and max are the ratio's; took {took_s:.0f} s"]
    text += [f"load average before: {machine['load_before']} (near 0 on a machine of one's own)"]
    text += [f"SKIPPED: scenario {number}: {reason}" for number, reason in sorted(report.skipped.items())]
    if report.skipped:
        text.append(f"{len(report.skipped)} skipped")
    return "\n".join(text)


def _row(line: Line) -> tuple[str, ...]:
    ratios = line.ratios()
    median, least, most = (f"{ratio:.2f}" for ratio in ratios) if ratios else ("", "", "")
    rss = line.peak_rss_kib()
    limit = line.limit()
    also = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in line.more().items())
    figures = (number(line.figure()), "" if limit is None else number(limit))
    resident = "" if rss is None else f"{rss / 1024:.0f}"
    return (str(line.scenario), line.name, line.durability, *figures, line.unit, median, least, most, line.aim, resident, also)


def number(value: float) -> str:
    """With as many digits as mean something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = zip(row, widths, HEADINGS)
    return "  ".join(cell.ljust(width) if name in LEFT else cell.rjust(width) for cell, width, name in cells).rstrip()

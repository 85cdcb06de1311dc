"""What came of a scenario: figures by round, and the ratio that the rounds agree on."""

from dataclasses import asdict, dataclass, field
from statistics import median


@dataclass(frozen=True)
class Round:
    figure: float
    # What the figure is held against, measured right beside it; nothing where there is none.
    limit: float | None = None
    # The most that was resident of the process that is measured.
    peak_rss_kib: int | None = None
    # More of what was seen in the round, by name with its unit.
    more: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return None if not self.limit else self.figure / self.limit


@dataclass
class Line:
    """One line of the table."""

    scenario: int
    name: str
    unit: str
    durability: str
    # What the ratio is meant to be, in words; empty where nothing is asked.
    aim: str = ""
    rounds: list[Round] = field(default_factory=list)

    def add(self, round_: Round) -> None:
        self.rounds.append(round_)

    def figure(self) -> float:
        return median(round_.figure for round_ in self.rounds)

    def limit(self) -> float | None:
        limits = [round_.limit for round_ in self.rounds if round_.limit is not None]
        return median(limits) if limits else None

    def ratios(self) -> tuple[float, float, float] | None:
        """Median, smallest, largest of the rounds' own ratios."""
        ratios = [round_.ratio for round_ in self.rounds if round_.ratio is not None]
        return (median(ratios), min(ratios), max(ratios)) if ratios else None

    def peak_rss_kib(self) -> int | None:
        return max((round_.peak_rss_kib for round_ in self.rounds if round_.peak_rss_kib is not None), default=None)

    def more(self) -> dict[str, float]:
        """The median of whatever else was seen."""
        names = {name: None for round_ in self.rounds for name in round_.more}
        return {name: median(r.more[name] for r in self.rounds if name in r.more) for name in names}

    def as_json(self) -> dict:
        summary = {
            "figure": self.figure(),
            "limit": self.limit(),
            "ratio": dict(zip(("median", "min", "max"), self.ratios() or (), strict=False)),
            "peak_rss_kib": self.peak_rss_kib(),
            "more": self.more(),
        }
        head = {"scenario": self.scenario, "name": self.name, "unit": self.unit}
        rounds = [asdict(round_) | {"ratio": round_.ratio} for round_ in self.rounds]
        return head | {"durability": self.durability, "aim": self.aim, "median": summary, "rounds": rounds}


class Report:
    """All lines, in the order in which they came."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        # Scenarios that could not be measured here, and why.
        self.skipped: dict[int, str] = {}

    def line(self, scenario: int, name: str, unit: str, durability: str, aim: str = "") -> Line:
        line = Line(scenario, name, unit, durability, aim)
        self.lines.append(line)
        return line

    def measured(self) -> list[Line]:
        return sorted((line for line in self.lines if line.rounds), key=lambda line: line.scenario)

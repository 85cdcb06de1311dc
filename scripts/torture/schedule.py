"""Which fault when: rolled from the seed before the round begins, so that a round can be had again."""

import random
from dataclasses import dataclass

from .faults import Fault


@dataclass(frozen=True)
class Stroke:
    """One fault: when it strikes, whom, and for how long. Seconds from the start of the load."""

    at_s: float
    fault: Fault
    # Which of those that it can strike.
    victim: int
    lasts_s: float

    def __str__(self) -> str:
        return f"{self.at_s:6.2f} s  {self.fault.name} (victim {self.victim}) for {self.lasts_s:.2f} s"


def roll(dice: random.Random, faults: list[Fault], seconds: float) -> list[Stroke]:
    """Strokes of such a round, in their order. One kind never strikes while it lasts."""
    strokes: list[Stroke] = []
    over = dict.fromkeys((fault.name for fault in faults), 0.0)
    at = dice.uniform(0.3, 1.0)
    while at < seconds:
        fault = dice.choices(faults, weights=[fault.weight for fault in faults])[0]
        victim, lasts = dice.randrange(1_000), dice.uniform(*fault.lasts_s)
        if over[fault.name] <= at:
            strokes.append(Stroke(at, fault, victim, lasts))
            over[fault.name] = at + lasts
        at += dice.uniform(0.1, 1.2)
    return strokes

"""Systole measured against the limit of the machine; run it by scripts/bench.sh.

Each scenario runs in rounds. In a round the limit and the figure are measured one right after the other, because a
shared machine is as fast as its neighbours let it be: what counts is the ratio of the two, and its median over the
rounds.

processes, services, load, scrape   what is started, and how it is looked at
intake, drain, merging, growth, …   the scenarios, by the stage of a heartbeat's way that they measure
rivals/                             the limits that are programs of their own, run by the Python of target/bench/venv
result, table, machine              what came of it
"""

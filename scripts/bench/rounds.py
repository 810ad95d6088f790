"""Turns, and what is kept of them.

Virtual CPUs that move between chiplets, and neighbours, change what a machine can do within seconds. So the probes of the machine
(read bandwidth, multiply-adds a second), one side, the other side and the probes again make a round. A round whose probes differ by
more than STEADY tells of the machine; it is thrown away. What counts is the median of at least WANTED rounds' own ratios.
Each side goes first in every other round.
"""
import statistics
import time

STEADY, WANTED = 1.15, 5


def ceiling_of(phase):
    """The field of a row with the probe that bounds a phase."""
    return "read_gb_s" if phase == "decode" else "gflop_s"


def spread(values):
    values = [v for v in values if v]
    return max(values) / min(values) if values else 1.0


class Ratios:
    """Rates of two sides for each phase: [(ours, theirs)], and how many rounds did not count."""

    def __init__(self, phases):
        self.pairs = {p: [] for p in phases}
        self.dropped = dict.fromkeys(phases, 0)
        self.unit = dict.fromkeys(phases, "")

    def is_enough(self, wanted):
        return all(len(v) >= wanted for v in self.pairs.values())

    def add(self, ours, theirs, probes):
        """ours: {phase: row of bench}; theirs: {phase: rate, or row}; probes: rows."""
        for phase, kept in self.pairs.items():
            if phase not in ours or phase not in theirs:
                continue
            rows = [r for r in (ours[phase], theirs[phase]) if isinstance(r, dict)]
            framed = [r[ceiling_of(phase)] for r in [*probes, *rows]]
            rates = [r["median"] if isinstance(r, dict) else r for r in (ours[phase], theirs[phase])]
            self.unit[phase] = ours[phase]["unit"]
            if spread(framed) > STEADY or not all(r["steady"] for r in rows):
                self.dropped[phase] += 1
            else:
                kept.append(tuple(rates))

    def summary(self, phase):
        """{"ours", "theirs", "unit", "ratio", "min", "max", "n", "dropped"}; None without a round that counts."""
        pairs = self.pairs[phase]
        if not pairs:
            return None
        ratios = [a / b for a, b in pairs]
        return {"ours": statistics.median(a for a, _ in pairs), "theirs": statistics.median(b for _, b in pairs), "unit": self.unit[phase],
                "ratio": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "n": len(pairs), "dropped": self.dropped[phase]}


def in_turns(ours, theirs, probe, phases, wanted=WANTED, seconds=None, is_warm=False):
    """ours(), theirs(): {phase: ...} of one turn. Stops with `wanted` rounds of each phase, after three times as many, or when
    another round would not end within `seconds` (at least one is made). The first turns warm up and are not counted, unless is_warm."""
    start = time.monotonic()
    ratios = Ratios(phases)
    if not is_warm:
        ours(), theirs()
    for i in range(3 * wanted):
        began = time.monotonic()
        before = probe()
        if i % 2:
            b, a = theirs(), ours()
        else:
            a, b = ours(), theirs()
        ratios.add(a, b, [before, probe()])
        now = time.monotonic()
        if ratios.is_enough(wanted) or (seconds is not None and now + (now - began) - start > seconds):
            break
    return ratios


def alone(round_of, phases, wanted=WANTED, seconds=None):
    """Rows of steady rounds of one program: {phase: [row]}, and {phase: dropped}. Ends as in_turns does."""
    start = time.monotonic()
    kept, dropped = {p: [] for p in phases}, dict.fromkeys(phases, 0)
    round_of()
    for _ in range(3 * wanted):
        began = time.monotonic()
        rows = round_of()
        for p in phases:
            if rows[p]["steady"]:
                kept[p].append(rows[p])
            else:
                dropped[p] += 1
        now = time.monotonic()
        if all(len(v) >= wanted for v in kept.values()) or (seconds is not None and now + (now - began) - start > seconds):
            break
    return kept, dropped

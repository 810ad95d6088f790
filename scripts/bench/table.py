"""Rows of a comparison with a target, as text, JSON (an object a line) or CSV.

ours, theirs: rates (or other values) with their unit; theirs is a peer's, or a measured ceiling. ratio: the median of the rounds'
own ratios. at_least / at_most: the target of the ratio, or of the value where `of` says so. A row without a value says why in note.
"""
import csv
import json
import sys

FIELDS = ("what", "setting", "against", "ours", "theirs", "unit", "ratio", "min", "max", "n", "dropped", "target", "verdict", "note")


def row(what, setting="", against="", target="", note="", verdict="-", **values):
    """verdict: "met", "missed" or what is given: "failed", "left out", "-" (not measured, or no target). target: ">= X" or "<= X", of the
    ratio, else of ours."""
    out = {**dict.fromkeys(FIELDS), "what": what, "setting": setting, "against": against, "target": target, "note": note, **values}
    measured = out["ratio"] if out["ratio"] is not None else out["ours"]
    out["verdict"] = verdict
    if target and measured is not None:
        sign, bound = target.split()
        out["verdict"] = "met" if (measured >= float(bound) if sign == ">=" else measured <= float(bound)) else "missed"
    return out


def number(x, form=".4g"):
    return "-" if x is None else format(x, form) if isinstance(x, float) else str(x)


class Table:
    """Prints each row as soon as it is there."""

    def __init__(self, form, f=sys.stdout):
        self.form, self.f, self.rows = form, f, []
        if form == "csv":
            csv.writer(f).writerow(FIELDS)
        elif form == "text":
            print(f"# {'what':14} {'setting':24} {'against':34} {'ours':>10} {'theirs':>10} {'unit':9} {'ratio':>7} {'min':>7} {'max':>7} {'n':>3} {'drop':>4}"
                  f" {'target':8} verdict", file=f)

    def add(self, r):
        self.rows.append(r)
        if self.form == "json":
            print(json.dumps(r), file=self.f)
        elif self.form == "csv":
            csv.writer(self.f).writerow(["" if r[k] is None else r[k] for k in FIELDS])
        else:
            note = f"  # {r['note']}" if r["note"] else ""
            print(f"{r['what']:16} {r['setting']:24} {r['against']:34} {number(r['ours']):>10} {number(r['theirs']):>10} {r['unit'] or '':9}"
                  f" {number(r['ratio'], '.3f'):>7} {number(r['min'], '.3f'):>7} {number(r['max'], '.3f'):>7} {number(r['n']):>3} {number(r['dropped']):>4}"
                  f" {r['target']:8} {r['verdict']}{note}", file=self.f)
        self.f.flush()

    def end(self, text=""):
        """The last line; the exit status. What could not be measured is told, but only what missed or failed is held against us."""
        missed, failed = (sum(r["verdict"] == v for r in self.rows) for v in ("missed", "failed"))
        unknown = sum(r["verdict"] == "left out" or (r["verdict"] == "-" and bool(r["target"])) for r in self.rows)
        self.remark(f"{len(self.rows)} rows: {missed} missed, {failed} failed, {unknown} not measured{text}")
        return 1 if missed or failed else 0

    def remark(self, text):
        """Stands between the rows as text, on stderr else."""
        print(f"# {text}", file=self.f if self.form == "text" else sys.stderr, flush=True)

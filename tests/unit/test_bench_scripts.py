#!/usr/bin/env python3
# RANKS: 1
"""What scripts/bench says of rounds: which count, what their ratios are, which targets are met; and that a paced paligrid answers.
Rates are made up, so nothing depends on this machine's speed."""
import io
import json
import os
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
from bench import aims, checkpoint, paligrid, peer_gemma_cpp, rounds, scratch, table, worker  # noqa: E402

PALIGRID = os.environ.get("PALIGRID", paligrid.PROGRAM)
MODEL = os.path.join(ROOT, "tests", "data", "oracle", "ckpt_micro")


def row(median, read=10.0, flops=100.0, steady=True):
    return {"median": median, "unit": "tokens/s", "read_gb_s": read, "gflop_s": flops, "steady": steady, "bytes": 1}


class Rounds(unittest.TestCase):
    def test_the_median_of_ratios_is_told(self):
        r = rounds.Ratios(["decode"])
        for ours, theirs in ((10, 5), (30, 10), (12, 12)):
            r.add({"decode": row(ours)}, {"decode": theirs}, [row(0), row(0)])
        s = r.summary("decode")
        self.assertEqual((s["ratio"], s["min"], s["max"], s["n"], s["dropped"]), (2, 1, 3, 3, 0))
        self.assertEqual((s["ours"], s["theirs"]), (12, 10))

    def test_unsteady_rounds_do_not_count(self):
        r = rounds.Ratios(["decode", "prefill"])
        ours = {"decode": row(10), "prefill": row(10)}
        theirs = {"decode": 5, "prefill": 5}
        r.add(ours, theirs, [row(0), row(0, read=11.6)])  # of the bandwidth: prefill does not mind
        r.add(ours, theirs, [row(0), row(0, flops=116)])
        r.add({**ours, "decode": row(10, steady=False)}, theirs, [row(0), row(0, read=11.4)])
        self.assertEqual((r.summary("decode")["n"], r.dropped["decode"]), (1, 2))
        self.assertEqual((r.summary("prefill")["n"], r.dropped["prefill"]), (2, 1))
        self.assertIsNone(rounds.Ratios(["decode"]).summary("decode"))

    def test_turns_alternate_and_end(self):
        said = []
        side = lambda name, rows: lambda: said.append(name) or rows  # noqa: E731
        r = rounds.in_turns(side("a", {"decode": row(4)}), side("b", {"decode": 2}), side("p", row(0)), ["decode"], wanted=2)
        self.assertEqual("".join(said), "ab" "pabp" "pbap")
        self.assertEqual(r.summary("decode")["ratio"], 2)
        said.clear()
        r = rounds.in_turns(side("a", {"decode": row(4, steady=False)}), side("b", {"decode": 2}), side("p", row(0)), ["decode"], wanted=2)
        self.assertEqual((said.count("b"), r.dropped["decode"]), (1 + 6, 6))
        r = rounds.in_turns(side("a", {"decode": row(4)}), side("b", {"decode": 2}), side("p", row(0)), ["decode"], wanted=5, seconds=0)
        self.assertEqual(r.summary("decode")["n"], 1)
        said.clear()
        rounds.in_turns(side("a", {"decode": row(4)}), side("b", {"decode": 2}), side("p", row(0)), ["decode"], wanted=1, is_warm=True)
        self.assertEqual("".join(said), "pabp")

    def test_rounds_alone(self):
        rows = iter([row(0), row(1, steady=False), row(2), row(3)])
        kept, dropped = rounds.alone(lambda: {"decode": next(rows)}, ["decode"], wanted=2)
        self.assertEqual(([r["median"] for r in kept["decode"]], dropped["decode"]), ([2, 3], 1))


class Rows(unittest.TestCase):
    def test_verdicts(self):
        self.assertEqual(table.row("x", target=">= 2", ratio=2.0)["verdict"], "met")
        self.assertEqual(table.row("x", target=">= 2", ratio=1.99, ours=5)["verdict"], "missed")
        self.assertEqual(table.row("x", target="<= 300", ours=301.0)["verdict"], "missed")
        self.assertEqual(table.row("x", target="<= 300")["verdict"], "-")
        self.assertEqual(table.row("x", ratio=9.0)["verdict"], "-")

    def test_forms_have_the_same_fields(self):
        r = table.row("decode", "s, t", "peer", ">= 1", ours=1.5, theirs=1.0, unit="tokens/s", ratio=1.5, min=1.4, max=1.6, n=5, dropped=1)
        texts = {form: io.StringIO() for form in ("text", "json", "csv")}
        for form, f in texts.items():
            table.Table(form, f).add(r)
        self.assertEqual(json.loads(texts["json"].getvalue()), r)
        self.assertIn('"s, t",peer,1.5,1.0,tokens/s,1.5,1.4,1.6,5,1,>= 1,met', texts["csv"].getvalue())
        self.assertRegex(texts["text"].getvalue(), r"1\.5 +1 tokens/s +1\.500 +1\.400 +1\.600 +5 +1 >= 1 +met")

    def test_failures_are_held_against_us_and_gaps_are_told(self):
        for rows, status, said in (([{"ratio": 2.0}], 0, "1 rows: 0 missed, 0 failed, 0 not measured"),
                                   ([{"ratio": 1.0}], 1, "1 rows: 1 missed, 0 failed, 0 not measured"),
                                   ([{"ratio": 2.0}, {"verdict": "failed"}], 1, "2 rows: 0 missed, 1 failed, 0 not measured"),
                                   ([{"verdict": "left out"}, {}], 0, "2 rows: 0 missed, 0 failed, 2 not measured")):
            f = io.StringIO()
            out = table.Table("text", f)
            for values in rows:
                out.add(table.row("x", target=">= 2", **values))
            self.assertEqual((out.end(), f.getvalue().splitlines()[-1]), (status, "# " + said))

    def test_targets_by_preset(self):
        self.assertEqual(aims.of_peer("transformers", "prefill", 1, "3b-448"), ">= 1.4")
        self.assertEqual(aims.of_peer("transformers", "prefill", 1, "3b-896"), ">= 2")
        self.assertEqual(aims.of_peer("llama-q4_0", "prefill_text", 1, "28b-224"), ">= 1.5")
        self.assertEqual(aims.of_peer("transformers", "vision", 1, "3b-224"), "")


class Folders(unittest.TestCase):
    def test_only_what_was_made_is_removed(self):
        with tempfile.TemporaryDirectory() as folder:
            def write(name):
                with open(os.path.join(folder, name), "w"):
                    pass
            write("before")
            s = scratch.Scratch(folder)
            s.make("before")
            os.mkdir(s.make("weights"))
            write("weights/shard")
            s.make("never written")
            write("during")
            s.remove(os.path.join(folder, "before"))
            s.remove_made()
            self.assertEqual(sorted(os.listdir(folder)), ["before", "during"])

    def test_an_interrupted_tokenizer_is_made_again(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "tokenizer.part"))
            out = checkpoint.tokenizer(scratch.Scratch(folder))
            with open(os.path.join(out, "added_tokens.json")) as f:
                self.assertEqual(json.load(f), {"<image>": checkpoint.IMAGE_TOKEN})
            self.assertEqual((os.listdir(folder), checkpoint.tokenizer(scratch.Scratch(folder))), (["tokenizer"], out))


class Peers(unittest.TestCase):
    def test_gemma_cpp_is_read(self):
        answer = ("[ Timing info ] Prefill: {} ms for 271 prompt tokens (135.50 tokens / sec); Time to first token: 2100 ms\n"
                  "[ Timing info ] Generate: {} ms for 8 tokens (10.00 tokens / sec)\n")
        said = "[ Timing info ] Image token generation took: 500 ms\n" + answer.format(3000, 900) + answer.format(2000, 800)
        self.assertEqual(peer_gemma_cpp.rates(said), {"vision": 2.0, "prefill_text": 136.0, "decode": 10.0})
        self.assertEqual(peer_gemma_cpp.rates("Segmentation fault"), {})

    def test_a_worker_that_cannot_says_why(self):
        with self.assertRaisesRegex(worker.Missing, "status"):
            worker.Worker("no_such_script.py")


class Paligrid(unittest.TestCase):
    def test_paced(self):
        with paligrid.Paced(PALIGRID, MODEL, "--max-new-tokens", 3, threads=1, max_batch=2, phases=("prefill", "decode")) as p:
            self.assertEqual(list(p.round(2)), ["prefill_text", "prefill", "decode"])
            probe = p.probe()
            self.assertTrue(probe["read_gb_s"] > 0 and probe["bytes"] > 1 << 20)
            held = p.resident_bytes()
            self.assertTrue(held is None or probe["bytes"] < held < 64 << 30)

    def test_apart(self):
        started = []

        def paced():
            started.append(paligrid.Paced(PALIGRID, MODEL, "--max-new-tokens", 3, threads=1, phases=("decode",)))
            return started[-1]
        with paligrid.Apart(paced, PALIGRID, 1) as p:
            self.assertEqual(started, [])
            self.assertTrue(p.probe()["read_gb_s"] > 0)
            for n in (1, 2):
                self.assertGreater(p.round()["decode"]["median"], 0)
                self.assertEqual((len(started), started[-1].process.poll() is None), (n, False))

    def test_a_program_that_ends_is_told(self):
        with paligrid.Paced(PALIGRID, "/nonexistent", phases=("decode",)) as p:
            with self.assertRaisesRegex(paligrid.Ended, "status 78"):
                p.round()

    def test_names_of_models(self):
        self.assertEqual(checkpoint.synthetic("3b-224"), "synthetic:3b-224")
        self.assertEqual(checkpoint.synthetic("3b-224", 2, 1), "synthetic:3b-224?layers=2&vision_layers=1")


if __name__ == "__main__":
    unittest.main(verbosity=0)

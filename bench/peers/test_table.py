"""`python3 -m unittest discover --start-directory peers --top-level-directory .`, in bench/"""

import unittest

from . import table
from .modes import AIMS, MODES, Aim, Figure, Mode, heartbeat_cpu
from .servers import FLOORS, GATEWAYS, PEERS, SERVERS

MODE = Mode(
    "m",
    "what it is",
    (),
    (
        Figure("cpu", "CPU", lambda result: result["cpu"]),
        Figure("rows", "rows", lambda result: result.get("rows"), more_is_better=True),
        Figure("lost", "lost", lambda result: result["lost"], has_ratio=False, is_ranked=False),
        Figure("other", "other", lambda result: None),
    ),
)


def rounds(*cpus, lost=0, **more):
    return dict(enumerate({"cpu": cpu, "lost": lost, **more} for cpu in cpus))


RESULTS = {"m": {"floor": rounds(2.0, 4.0, 90.0), "gateway": rounds(3.0, 5.0, 45.0)}}


class Table(unittest.TestCase):
    def test_a_server_stands_with_its_median_its_spread_and_the_median_of_its_ratios(self):
        lines = table.mode_table(MODE, RESULTS["m"]).splitlines()
        self.assertEqual(lines[0], "|  | CPU | lost |")
        self.assertEqual(lines[2], "| floor | 4 (2–90) | 0 |")
        # Of 1.5, 1.25 and 0.5; the ratio of the medians is another.
        self.assertEqual(lines[3], "| gateway | 5 (3–45) **1.25 ×** | 0 |")

    def test_a_ratio_is_within_a_round(self):
        self.assertEqual(table.ratio({0: 3.0, 2: 8.0}, {1: 1.0, 2: 4.0}), 2.0)
        self.assertIsNone(table.ratio({0: 3.0}, {1: 1.0}))
        self.assertIn("| gateway | 5 (3–45) | 0 |", table.mode_table(MODE, {"gateway": RESULTS["m"]["gateway"]}))

    def test_an_aim_holds_up_to_its_limit(self):
        def verdict(limit, by):
            return table.aims_table([Aim("a", ("m", "cpu"), limit, by)], [MODE], RESULTS).splitlines()[-1]

        self.assertEqual(verdict(1.25, ("m", "floor", "cpu")), "| a | 1.25 | 1.25 | holds |")
        self.assertEqual(verdict(1.2, ("m", "floor", "cpu")), "| a | 1.25 | 1.2 | **missed** |")
        self.assertEqual(verdict(5, None), "| a | 5 | 5 | holds |")

    def test_what_was_not_measured_neither_holds_nor_is_missed(self):
        self.assertIsNone(table.aim_value(Aim("a", ("m", "cpu"), 1, ("m", "nchan", "cpu")), [MODE], RESULTS))
        self.assertIn("not measured", table.aims_table(AIMS, MODES, {}))

    def test_the_gateway_is_first_or_the_peer_that_is_has_a_name(self):
        by_server = {
            "gateway": rounds(3.0, rows=9),
            "nchan": rounds(2.0, rows=9),
            "mercure": rounds(4.0, rows=8),
            "floor": rounds(1.0, rows=99),
        }
        cpu, rows = table.ranks([MODE], {"m": by_server}, PEERS)
        self.assertEqual((cpu.peer, cpu.is_first, rows.is_first), ("nchan", False, True))
        self.assertIn("first of all peers in 1 of 2", table.ranks_text([cpu, rows]))

    def test_a_peer_that_loses_rows_is_no_measure(self):
        by_server = {"gateway": rounds(3.0), "nchan": rounds(2.0, lost=1), "mercure": rounds(4.0)}
        (cpu,) = table.ranks([MODE], {"m": by_server}, PEERS)
        self.assertEqual((cpu.peer, cpu.is_first), ("mercure", True))

    def test_every_aim_is_about_figures_that_there_are(self):
        keys = {(mode.name, figure.key) for mode in MODES for figure in mode.figures}
        servers = {(mode.name, server) for mode in MODES for server in mode.servers}
        for aim in AIMS:
            self.assertIn(aim.figure, keys)
            self.assertIn((aim.figure[0], aim.server), servers)
            if aim.by:
                mode, server, key = aim.by
                self.assertIn((mode, key), keys)
                self.assertIn((mode, server), servers)

    def test_modes_name_servers_that_there_are(self):
        self.assertEqual(set(SERVERS), {*FLOORS, *GATEWAYS, *PEERS})
        for mode in MODES:
            self.assertLessEqual(set(mode.servers), set(SERVERS))

    def test_the_whole_begins_with_its_head_and_leaves_nothing_out(self):
        about = table.About(["machine: m"], ["floor: f"], {"m": "notify-loadtest m"}, "make bench-peers")
        text = table.render([MODE], (), RESULTS, PEERS, about, [("t", "p.svg")], "<!-- generated -->")
        self.assertTrue(text.startswith("<!-- generated -->\n"))
        for needle in ("Medians of 3", "![t](p.svg)", "### m", "What it is.", "- floor: f", "`notify-loadtest m`"):
            self.assertIn(needle, text)

    def test_who_beats_by_comments_has_a_figure_as_well(self):
        result = {"streams": 10, "measured_s": 2.0, "server": {"cpu_us_per_event": None, "cpu_s": 4e-5}}
        self.assertEqual(heartbeat_cpu(result), 2.0)
        self.assertEqual(heartbeat_cpu({**result, "server": {"cpu_us_per_event": 3.0}}), 3.0)

    def test_numbers_are_as_long_as_they_are_exact(self):
        shown = [table.number(value) for value in (None, 0, 12345.6, 12.345, 0.123456)]
        self.assertEqual(shown, ["—", "0", "12,346", "12.3", "0.123"])


if __name__ == "__main__":
    unittest.main()

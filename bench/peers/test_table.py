"""`python3 -m unittest discover bench`"""

import unittest

from . import table
from .modes import AIMS, MODES, Aim, Figure, Mode

MODE = Mode(
    "m",
    "what it is",
    (),
    (
        Figure("cpu", "CPU", lambda result: result["cpu"]),
        Figure("lost", "lost", lambda result: result["lost"], has_ratio=False),
        Figure("other", "other", lambda result: None),
    ),
)
RESULTS = {
    "floor": [{"cpu": 2.0, "lost": 0}, {"cpu": 4.0, "lost": 0}, {"cpu": 90.0, "lost": 0}],
    "gateway": [{"cpu": 5.0, "lost": 1}],
}
FOUND = {"m": {server: table.medians(MODE, results) for server, results in RESULTS.items()}}


class Table(unittest.TestCase):
    def test_a_server_stands_with_its_median_and_the_ratio_to_the_floor(self):
        lines = table.mode_table(MODE, RESULTS).splitlines()
        self.assertEqual(lines[2], "|  | CPU | lost |")
        self.assertEqual(lines[4], "| floor | 4 | 0 |")
        self.assertEqual(lines[5], "| gateway | 5 (1.25 ×) | 1 |")

    def test_without_the_floor_there_is_no_ratio(self):
        self.assertIn("| gateway | 5 | 1 |", table.mode_table(MODE, {"gateway": RESULTS["gateway"]}))

    def test_an_aim_holds_up_to_its_limit(self):
        def verdict(limit, by):
            return table.aims_table([Aim("a", ("m", "cpu"), limit, by)], FOUND).splitlines()[-1]

        self.assertEqual(verdict(1.25, ("m", "floor", "cpu")), "| a | 1.25 | 1.25 | holds |")
        self.assertEqual(verdict(1.2, ("m", "floor", "cpu")), "| a | 1.25 | 1.2 | **missed** |")
        self.assertEqual(verdict(5, None), "| a | 5 | 5 | holds |")

    def test_what_was_not_measured_neither_holds_nor_is_missed(self):
        self.assertEqual(table.aim_value(Aim("a", ("m", "cpu"), 1, ("m", "nchan", "cpu")), FOUND), None)
        self.assertIn("not measured", table.aims_table(AIMS, {}))

    def test_every_aim_is_about_figures_that_there_are(self):
        keys = {(mode.name, figure.key) for mode in MODES for figure in mode.figures}
        servers = {(mode.name, server) for mode in MODES for server in mode.servers}
        for aim in AIMS:
            self.assertIn(aim.figure, keys)
            if aim.by:
                mode, server, key = aim.by
                self.assertIn((mode, key), keys)
                self.assertIn((mode, server), servers)

    def test_numbers_are_as_long_as_they_are_exact(self):
        shown = [table.number(value) for value in (None, 0, 12345.6, 12.345, 0.123456)]
        self.assertEqual(shown, ["—", "0", "12,346", "12.3", "0.123"])


if __name__ == "__main__":
    unittest.main()

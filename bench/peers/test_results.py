import pathlib
import tempfile
import unittest

from .modes import MODES
from .results import Results, stamp
from .servers import SERVERS

STAMP = {"sources": "abc", "arguments": ["steady"]}


class Kept(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.results = Results(pathlib.Path(directory.name) / "peers")

    def test_what_was_measured_is_there_in_its_round(self):
        self.results.put("steady", "floor", 1, STAMP, {"x": 1})
        self.assertEqual(self.results.get("steady", "floor", 1, STAMP), {"x": 1})
        self.assertIsNone(self.results.get("steady", "floor", 0, STAMP))
        self.assertEqual(self.results.rounds("steady", "floor", STAMP), {1: {"x": 1}})

    def test_of_another_commit_or_of_other_arguments_it_is_stale(self):
        self.results.put("steady", "floor", 0, STAMP, {"x": 1})
        for other in ({**STAMP, "sources": "def"}, {**STAMP, "arguments": ["steady", "-n", "1"]}):
            self.assertIsNone(self.results.get("steady", "floor", 0, other))
            self.assertEqual(self.results.rounds("steady", "floor", other), {})
        self.results.put("steady", "floor", 0, {**STAMP, "sources": "def"}, {"x": 2})
        self.assertEqual(self.results.rounds("steady", "floor", STAMP), {})

    def test_what_a_stopped_run_left_in_the_middle_is_no_result(self):
        self.results.put("steady", "floor", 0, STAMP, {"x": 1})
        file = self.results.directory / "steady/floor/000.json"
        file.write_text(file.read_text()[:-5])
        self.assertIsNone(self.results.get("steady", "floor", 0, STAMP))
        (file.parent / "001.draft").write_text("{")
        self.assertEqual(self.results.rounds("steady", "floor", STAMP), {})

    def test_afresh_there_is_nothing(self):
        self.results.put("steady", "floor", 0, STAMP, {"x": 1})
        self.results.clear()
        self.assertIsNone(self.results.get("steady", "floor", 0, STAMP))

    def test_servers_and_modes_have_stamps_of_their_own(self):
        mode = MODES[0]
        one = stamp("abc", SERVERS["gateway"], mode, mode.arguments, "15")
        self.assertEqual(one, stamp("abc", SERVERS["gateway"], mode, mode.arguments, "15"))
        self.assertNotEqual(one, stamp("abc", SERVERS["gateway-loud"], mode, mode.arguments, "15"))
        self.assertNotEqual(one, stamp("abc", SERVERS["gateway"], mode, mode.quick, "15"))

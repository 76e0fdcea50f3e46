import unittest
from xml.etree import ElementTree

from . import pictures

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = [("a < b", [("gateway", 1.0, "1 <", True), ("nchan", 4.0, "4", False)]), ("", [("none", 0, "0", False)])]


class Pictures(unittest.TestCase):
    def setUp(self):
        self.root = ElementTree.fromstring(pictures.bars("What & why", GROUPS))

    def test_every_name_and_number_is_there(self):
        texts = [each.text for each in self.root.iter(f"{SVG}text")]
        self.assertEqual(texts, ["What & why", "a < b", "gateway", "1 <", "nchan", "4", "none", "0"])
        self.assertIn("What & why: gateway 1 <; nchan 4", self.root.get("aria-label"))

    def test_bars_of_a_group_are_as_long_as_their_values(self):
        ours, theirs, none = (float(each.get("width")) for each in self.root.iter(f"{SVG}rect"))
        self.assertAlmostEqual(theirs / ours, 4, places=2)
        self.assertEqual(none, 1)

    def test_all_of_it_is_inside_the_picture(self):
        _, _, width, height = map(float, self.root.get("viewBox").split())
        for bar in self.root.iter(f"{SVG}rect"):
            self.assertLessEqual(float(bar.get("x")) + float(bar.get("width")) + pictures.NUMBERS, width)
            self.assertLessEqual(float(bar.get("y")) + float(bar.get("height")), height)

    def test_bars_are_seen_on_white_and_on_black_alike(self):
        for colour in (pictures.OURS, pictures.OTHERS):
            for page in ("#ffffff", "#0d1117"):
                self.assertGreaterEqual(pictures.contrast(colour, page), 3, (colour, page))

    def test_the_text_follows_the_colour_scheme(self):
        style = self.root.find(f"{SVG}style").text
        self.assertIn("fill:currentColor", style)
        self.assertIn("prefers-color-scheme:dark", style)
        for colour, page in (("#1f2328", "#ffffff"), ("#e6edf3", "#0d1117")):
            self.assertIn(colour, style)
            self.assertGreaterEqual(pictures.contrast(colour, page), 7)

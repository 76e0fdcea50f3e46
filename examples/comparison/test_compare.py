"""The comparison's arithmetic, table and picture; and one small run of all of it."""

import json
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import report  # noqa: E402

ABOUT = {
    "machine": "Some Processor, 2 cores",
    "versions": {"notify-gateway": "0.1.0", "PostgreSQL": "15.18"},
    "date": "2026-11-29",
    "plan": {"streams": 1000, "poll": 30, "rows_a_second": 20, "requests_a_second": 20},
}
KEYS = (
    "requests_a_minute",
    "bell_p50",
    "bell_p99",
    "live_rows",
    "live_lost",
    "live_failed",
    "memory_before",
    "memory_with",
    "memory_gateway",
    "answer_p50",
    "answer_p99",
    "deploy_rows",
    "deploy_lost",
    "deploy_slowest_s",
    "deploy_failed",
    "deploy_pages_failed",
    "insert_paced",
    "insert_1",
    "insert_8",
)


def a_round(value: float) -> report.Round:
    return {way: dict.fromkeys(KEYS, value * (place + 1)) for place, way in enumerate(report.WAYS)}


def test_a_percentile_is_a_value_that_was_measured():
    assert report.percentile([3, 1, 2], 0.5) == 2
    assert report.percentile(range(1, 101), 0.99) == 99
    assert report.percentile([7], 0.99) == 7
    assert math.isnan(report.percentile([], 0.5))


def test_numbers_have_three_digits_that_count():
    shown = [report.number(value) for value in (0, 7, 0.312, 4.567, 45.67, 1234.5, math.nan)]
    assert shown == ["0", "7", "0.31", "4.57", "45.7", "1,234", "–"]
    assert report.duration(14_870) == "14.9 s"
    assert report.duration(0.287) == "0.29 ms"


def test_the_table_has_the_median_and_the_spread_of_each_way():
    table = report.table([a_round(1), a_round(5), a_round(2)])
    line = next(line for line in table.splitlines() if "requests a minute" in line)
    assert line.endswith("| 2 (1–5) | 4 (2–10) | 6 (3–15) |")
    times = next(line for line in table.splitlines() if "page, p50" in line)
    assert times.endswith("| 2 ms (1–5) | 4 ms (2–10) | 6 ms (3–15) |")
    ratios = next(line for line in table.splitlines() if "8 busy writers: to no trigger" in line)
    assert ratios.endswith("| 1.00 × | 2.00 × | 3.00 × |")
    assert {line.count("|") for line in table.splitlines()} == {5}


def test_a_spread_over_two_units_names_both():
    rounds = [{way: {"bell_p50": took} for way in report.WAYS} for took in (12, 1500, 800)]
    assert report.BELL_P50.cell(rounds, report.GATEWAY) == "800 ms (12 ms–1.50 s)"


def test_the_heading_says_machine_versions_and_rounds():
    heading = report.heading(ABOUT, 3)
    for part in ("Some Processor", "PostgreSQL 15.18", "1,000 pages", "3 interleaved rounds", "2026-11-29"):
        assert part in heading


def test_what_is_between_the_markers_is_replaced_and_nothing_else():
    begin, end = report.MARKERS
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    once = report.within(text, "new\n")
    assert once == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    assert report.within(once, "new") == once
    with pytest.raises(ValueError, match="needs one line"):
        report.within("no markers", "new")


def test_the_picture_is_well_formed_and_has_a_bar_for_each_way_in_each_panel():
    root = ElementTree.fromstring(report.svg([a_round(3)], ABOUT))
    bars = [rect for rect in root.iter("{http://www.w3.org/2000/svg}rect") if rect.get("rx") == "2"]
    assert len(bars) == len(report.PANELS) * len(report.WAYS)
    width = float(root.get("width"))
    assert all(float(bar.get("x")) + float(bar.get("width")) < width for bar in bars)


def test_a_figure_that_is_zero_everywhere_has_a_panel_too():
    of_nothing = a_round(3)
    for figures in of_nothing.values():
        figures["deploy_lost"] = 0
    assert "NaN" not in report.svg([of_nothing], ABOUT)


def test_all_of_it_runs_and_the_gateway_loses_nothing(tmp_path):
    kept, picture, page = tmp_path / "kept.json", tmp_path / "picture.svg", tmp_path / "page.md"
    page.write_text("\n".join(report.MARKERS))
    command = [sys.executable, HERE / "compare.py", "--quick", "--json", kept, "--svg", picture, "--markdown", page]
    subprocess.run(command, check=True, timeout=400)
    [figures] = json.loads(kept.read_text())["rounds"]
    assert set(figures) == set(report.WAYS)
    for way, of_way in figures.items():
        assert set(KEYS) <= set(of_way), way
        assert all(math.isfinite(value) for value in of_way.values()), way
        assert of_way["live_rows"] > 30 and of_way["deploy_rows"] > 30, way
        assert of_way["live_lost"] == 0, way
    polling, in_process, gateway = (figures[way] for way in report.WAYS)
    assert gateway["deploy_lost"] == 0 and polling["deploy_lost"] == 0
    assert in_process["deploy_lost"] > 0
    assert gateway["bell_p50"] < 1000 < polling["bell_p99"]
    assert polling["requests_a_minute"] > 200
    assert gateway["requests_a_minute"] == in_process["requests_a_minute"] == 0
    assert gateway["memory_gateway"] > 1
    ElementTree.parse(picture)
    assert "notify-gateway" in page.read_text()

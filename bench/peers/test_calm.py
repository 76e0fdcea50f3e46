import unittest

from . import calm


def of(*cores):
    results = iter({"generator": {"others_cores": each}} for each in cores)
    return lambda: next(results)


class Calm(unittest.TestCase):
    def test_what_is_not_idle_is_busy_and_so_is_what_the_host_keeps(self):
        #                               user nice system idle iowait irq softirq steal
        busy = calm.busy_cores("cpu 0 0 0 0 0 0 0 0 9 9", "cpu 10 0 10 60 10 0 0 10 99 99")
        self.assertEqual(busy, 0.3)

    def test_the_first_that_nobody_disturbed_is_taken(self):
        self.assertEqual(calm.others(calm.calmest(of(1.2, 0.1, 0.0))), 0.1)

    def test_where_all_are_disturbed_it_is_the_least(self):
        self.assertEqual(calm.others(calm.calmest(of(1.2, 0.9, 1.5))), 0.9)

    def test_waiting_ends_with_patience(self):
        passed = iter(range(0, 1000, 10))
        lines = iter(f"cpu {n} 0 0 0 0 0 0 0" for n in range(1000))
        calm.wait(2, now=lambda: next(passed), sleep=lambda _: None, stat=lambda: next(lines))
        self.assertGreaterEqual(next(passed), calm.PATIENCE_S)

    def test_waiting_ends_with_calm(self):
        lines = iter(["cpu 0 0 0 0 0 0 0 0", "cpu 1 0 0 99 0 0 0 0"])
        calm.wait(2, now=lambda: 0, sleep=lambda _: None, stat=lambda: next(lines))

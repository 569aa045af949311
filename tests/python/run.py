#!/usr/bin/env python3
"""Runs pytest on a file: 0, or 77 when every test of it was skipped, or pytest's status."""
import sys

try:
    import pytest
except ImportError:
    sys.exit(print("SKIPPED: pytest is not there") or 77)


class Count:
    """Outcomes, for CTest's idea of a skipped test."""

    passed = skipped = 0

    def pytest_runtest_logreport(self, report):
        self.passed += report.when == "call" and report.passed
        self.skipped += report.skipped

    def pytest_collectreport(self, report):
        self.skipped += report.skipped


count = Count()
status = pytest.main(["-q", "-ra", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[count])
if status in (0, 5) and not count.passed and count.skipped:
    status = 77
print(f"{count.passed} passed, {count.skipped} skipped")
sys.exit(int(status))

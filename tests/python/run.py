#!/usr/bin/env python3
"""Runs pytest on a file: 0, or 77 when every test of it was skipped, or pytest's status."""
import os
import sys

os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
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


def main():
    count = Count()
    status = pytest.main(["-q", "-ra", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[count])
    print(f"{count.passed} passed, {count.skipped} skipped")
    return 77 if status in (0, 5) and not count.passed and count.skipped else int(status)


if __name__ == "__main__":
    sys.exit(main())

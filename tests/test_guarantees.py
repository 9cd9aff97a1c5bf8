"""docs/guarantees.md names a test for each promise, and the tests are there."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
ROWS = re.findall(
    r"^\| (?P<number>[\w ]+) \| (?P<promise>[^|]+) \| (?P<tests>[^|]*`tests/[^|]+) \|$", PAGE, re.MULTILINE
)


def test_each_promise_names_tests_that_are_there() -> None:
    """A test that was renamed, or a promise without one, is noticed here."""
    assert len(ROWS) > 25
    for number, _, tests in ROWS:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert named, number
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text("utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{number}: {path}"


def test_every_number_has_a_promise() -> None:
    """M1 to M30."""
    assert {f"M{number}" for number in range(1, 31)} <= {number for number, _, _ in ROWS}

"""References to files in what a run left behind."""

from __future__ import annotations

import pytest

from dataflex.record.files import leads_outside


@pytest.mark.parametrize("reference", ["", "decisions/step-00000001.npy", "a/./b", "..a/b..", "a..b", "C/x"])
def test_a_path_within_the_folder_stays_inside(reference):
    assert not leads_outside(reference)


@pytest.mark.parametrize(
    "reference",
    ["..", "../x", "a/../../x", "/etc/passwd", "..\\x", "a\\..\\x", "C:x", "C:\\x", "\\\\host\\share", "a\0"],
)
def test_a_path_that_leaves_the_folder_on_any_system_is_told(reference):
    assert leads_outside(reference)

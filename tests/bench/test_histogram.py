"""The histogram: the layout of HdrHistogram, to the counter; merged runs are the run of their union."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastecho.bench import hdr
from fastecho.bench._hdr import HIGHEST, Histogram

values = st.lists(st.integers(0, HIGHEST) | st.integers(0, 5000) | st.sampled_from([2047, 2048, 2049]), max_size=60)


def test_a_deprecation_in_the_package_is_no_warning_of_ours(tmp_path):
    """Python 3.14 warns about the package's ctypes structures while it is imported."""
    (tmp_path / "hdrh").mkdir()
    (tmp_path / "hdrh" / "__init__.py").touch()
    (tmp_path / "hdrh" / "histogram.py").write_text(
        "import warnings\nwarnings.warn('old', DeprecationWarning)\nclass HdrHistogram: ...\n", encoding="utf-8"
    )
    code = "from fastecho.bench import hdr; hdr.require(); import hdrh.histogram as package; print(package.__file__)"
    command = [sys.executable, "-W", "error", "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == (f"{tmp_path / 'hdrh' / 'histogram.py'}\n", "")


def recorded(numbers):
    histogram = Histogram()
    for number in numbers:
        histogram.record(number)
    return histogram


@settings(max_examples=20)
@given(values)
def test_percentiles_are_those_of_the_package(numbers):
    hdr.require()  # first: it imports the package without the warning of Python 3.14
    from hdrh.histogram import HdrHistogram

    ours, theirs = recorded(numbers), HdrHistogram(1, HIGHEST, 3)
    for number in numbers:
        assert theirs.record_value(number)
    assert len(ours) == theirs.get_total_count()
    for percent in (1, 50, 90, 99, 99.9, 100):
        expected = theirs.get_value_at_percentile(percent)
        if numbers:
            assert ours.percentile(percent) == min(expected, max(numbers))
    assert hdr.decode(hdr.encode(ours)).items() == ours.items()


@given(st.integers(0, HIGHEST))
def test_values_are_kept_to_three_digits(number):
    histogram = recorded([number])
    ((lowest, times),) = histogram.items()
    assert times == 1
    assert lowest <= number
    assert number - lowest <= number / 1000


@pytest.mark.slow
@settings(max_examples=20)
@given(values, values)
def test_merged_runs_are_the_run_of_their_union(some, others):
    merged = hdr.merge([hdr.decode(hdr.encode(recorded(some))), hdr.decode(hdr.encode(recorded(others)))])
    union = recorded(some + others)
    assert merged.items() == union.items()
    assert hdr.encode(merged) == hdr.encode(union)


@settings(max_examples=20)
@given(values, values)
def test_since_is_what_came_between(some, others):
    histogram, earlier = recorded(some), Histogram()
    assert histogram.since(earlier).items() == histogram.items()
    for number in others:
        histogram.record(number)
    assert histogram.since(earlier).items() == recorded(others).items()
    assert earlier.items() == histogram.items()


def test_beyond_the_highest_counts_as_the_highest():
    assert recorded([HIGHEST * 7]).max == HIGHEST


def test_an_empty_one():
    empty = Histogram()
    assert (len(empty), empty.min, empty.max, empty.mean, empty.percentile(99)) == (0, 0, 0, 0.0, 0)
    assert hdr.decode(hdr.encode(empty)).items() == []


@pytest.mark.parametrize("text", ["", "nonsense", "HISTFAAAABl4nJNpmSzMwMDAyAABIJqRAQAAGQABFA=="])
def test_text_that_is_no_histogram_is_refused(text):
    with pytest.raises(ValueError, match="not an HdrHistogram"):
        hdr.decode(text)

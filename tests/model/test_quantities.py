from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import InvalidValueError
from aliquot.model import format_bytes, format_duration, parse_bytes

UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2Gi", 2 * 2**30),
        ("512MiB", 512 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("1.5 GiB", 3 * 2**29),
        (" 7 ", 7),
        ("0", 0),
        ("80g", 80 * 10**9),
        ("0.5Ki", 512),
        ("7Ei", 7 * 2**60),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes_that_people_write(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Gi",
        "-1Gi",
        "+1Gi",
        "1e3",
        "1.Gi",
        ".5Gi",
        "1,5Gi",
        "2 G i",
        "2Xi",
        "2GiBs",
        "nan",
        "٣Gi",
        "0.3",
        "1.0001K",
        "8Ei",
        "9223372036854775808",
        "1\n2",
    ],
)
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_bytes(text)
    assert repr(text) in caught.value.reason
    assert "2Gi" in caught.value.hint


@given(
    st.integers(0, 10**6),
    st.integers(0, 999),
    st.sampled_from(sorted(UNITS)),
    st.sampled_from(["", "B", "b"]),
)
def test_a_parsed_size_is_exact(whole: int, thousandths: int, unit: str, suffix: str) -> None:
    exact = (whole + Fraction(thousandths, 1000)) * UNITS[unit]
    text = f"{whole}.{thousandths:03}{unit}{suffix}"
    if exact.denominator == 1:
        assert parse_bytes(text) == exact
    else:
        with pytest.raises(InvalidValueError, match="whole number of bytes"):
            parse_bytes(text)


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_typed_error(text: str) -> None:
    try:
        size = parse_bytes(text)
    except InvalidValueError:
        return
    assert 0 <= size < 2**63


@given(st.integers(0, 2**63 - 1))
def test_formatting_loses_less_than_one_percent(size: int) -> None:
    shown = parse_bytes_of_display(format_bytes(size))
    assert abs(shown - size) <= size / 100
    assert len(format_bytes(size)) <= len("1023 MiB")


def parse_bytes_of_display(text: str) -> Fraction:
    number, unit = text.split()
    return Fraction(number) * 1024 ** ("", "K", "M", "G", "T", "P", "E").index(
        unit.removesuffix("B").removesuffix("i")
    )


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (3 * 2**29, "1.50 GiB"),
        (1023 * 2**20 + 2**19, "1.00 GiB"),
        (80 * 2**30, "80.0 GiB"),
        (812 * 2**20, "812 MiB"),
    ],
)
def test_sizes_as_people_read_them(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (40_000, "40.0 us"),
        (812_000_000, "812 ms"),
        (2_310_000_000, "2.31 s"),
        (999_700_000, "1.00 s"),
        (3_600_000_000_000, "3600 s"),
    ],
)
def test_durations_as_people_read_them(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text

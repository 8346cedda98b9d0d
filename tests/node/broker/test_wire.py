"""What the broker reads from strangers: exactly its requests, and nothing else whatever comes."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aliquot.errors import AliquotError, InvalidValueError
from aliquot.limits import SliceAccessError
from aliquot.node.broker.wire import (
    MOST_REQUEST_BYTES,
    AllowanceExceededError,
    BrokerError,
    Cards,
    Change,
    Create,
    Remove,
    read_answer,
    read_request,
    write_answer,
    write_error,
    write_request,
)

GOOD = {"version": 1, "do": "create", "device": "GPU-1", "vram_bytes": 1 << 20}
REQUESTS = [
    Cards(),
    Create(device="GPU-1", vram_bytes=5, compute=300_000, compute_limit=300_000, qos="low", owner=7),
    Create(device="GPU-1", vram_bytes=1, name="training", number=3),
    Change(name="a", vram_bytes=9, compute=0, qos="high", index=2, owner=0),
    Remove(name="a.b-c_d"),
]
numbers = st.integers() | st.sampled_from([-1, 0, 1, 10**6, 10**6 + 1, 2**32, 2**48, 2**64])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
members = st.sampled_from(
    [
        "version",
        "do",
        "device",
        "vram_bytes",
        "compute",
        "compute_limit",
        "qos",
        "name",
        "number",
        "owner",
        "index",
    ]
)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: type(each).__name__)
def test_a_request_arrives_as_it_was_sent(request_: object) -> None:
    assert read_request(write_request(request_)) == request_  # type: ignore[arg-type]


def refused(packet: bytes) -> bool:
    """Whether it is refused in the one way that there is."""
    try:
        request = read_request(packet)
    except InvalidValueError:
        return True
    assert isinstance(request, Cards | Create | Change | Remove)
    if isinstance(request, Create):
        assert 1 <= request.vram_bytes < 2**48
        assert 0 <= request.compute <= 10**6
    if isinstance(request, Change | Remove):
        assert "/" not in request.name
        assert not request.name.startswith(".")
    return False


@given(st.binary(max_size=MOST_REQUEST_BYTES + 64))
def test_any_bytes(packet: bytes) -> None:
    refused(packet)


@given(values)
def test_any_json(value: object) -> None:
    assert refused(json.dumps(value).encode())


@given(st.dictionaries(members, values | st.just("create") | st.just(1), max_size=8), st.booleans())
def test_any_members(changes: dict[str, object], grounded: bool) -> None:
    refused(json.dumps({**(GOOD if grounded else {}), **changes}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"version": True},
        {"do": "destroy"},
        {"do": ["create"]},
        {"name": "../bob/training"},
        {"name": "a/b"},
        {"name": ".arbiter"},
        {"name": "n" * 64},
        {"name": "a\n"},
        {"name": "a\0"},
        {"vram_bytes": 0},
        {"vram_bytes": 1.5},
        {"vram_bytes": True},
        {"vram_bytes": 2**48},
        {"vram_bytes": 10**400},
        {"compute": -1},
        {"compute": 1_000_001},
        {"compute": "30%"},
        {"owner": -1},
        {"owner": 2**32 - 1},
        {"owner": "0"},
        {"device": ""},
        {"device": "x" * 97},
        {"device": None},
        {"fixed": False},
        {"driver": "/tmp/libcuda.so.1"},
        {"path": "/etc"},
    ],
    ids=str,
)
def test_what_makes_no_sense(changes: dict[str, object]) -> None:
    assert not refused(json.dumps(GOOD).encode())
    assert refused(json.dumps({**GOOD, **changes}).encode())


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{}",
        b"[" * 4000,
        b'{"a":' * 600,
        b"1" * 4096,
        b"NaN",
        b"\xff" * 4096,
        b"\0" * 32,
        json.dumps(GOOD).encode() + b" " * MOST_REQUEST_BYTES,
        json.dumps({**GOOD, "qos": "\u0661"}, ensure_ascii=False).encode(),
        json.dumps({"version": 1, "do": "create", "device": "GPU-1"}).encode(),
    ],
    ids=["empty", "bare", "deep", "deeper", "number", "nan", "ones", "zeroes", "long", "digits", "no size"],
)
def test_malformed_packets(packet: bytes) -> None:
    assert refused(packet)


def test_an_error_arrives_as_what_it_was() -> None:
    sent = AllowanceExceededError("no room", hint="ask for less")
    with pytest.raises(AllowanceExceededError) as seen:
        read_answer(write_error(sent))
    assert (seen.value.reason, seen.value.hint) == ("no room", "ask for less")
    with pytest.raises(SliceAccessError):
        read_answer(write_error(SliceAccessError("not yours")))
    assert read_answer(write_answer({"path": "/x"})) == {"path": "/x"}
    with pytest.raises(BrokerError):
        read_answer(write_answer({"path": "x" * (1 << 17)}))


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_an_answer_is_one_or_an_error(packet: bytes) -> None:
    with suppress(AliquotError):
        assert isinstance(read_answer(packet), dict)

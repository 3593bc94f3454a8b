from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from stager import errors
from stager.errors import (
    DigestMismatchError,
    FetchError,
    InputError,
    OriginBusyError,
    RemoteError,
    StagerError,
    error_from_dict,
)

KINDS: list[type[StagerError]] = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, StagerError) and value.__module__ == errors.__name__
]
EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def full(kind: type[StagerError]) -> StagerError:
    return kind("a thing broke", cause="it was old", remedy="buy a new one", url="https://h/x", status=410)


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in KINDS]
    assert sorted(codes) == sorted(set(codes))


@EVERY_KIND
def test_every_kind_says_its_own_code_and_what_it_means(kind: type[StagerError]) -> None:
    assert "code" in vars(kind)
    assert kind.__doc__


@EVERY_KIND
def test_an_error_survives_pickling(kind: type[StagerError]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(full(kind), protocol))
        assert type(copy) is kind
        assert copy == full(kind)
        assert str(copy) == str(full(kind))
        assert copy.args == full(kind).args


@EVERY_KIND
def test_an_error_survives_json(kind: type[StagerError]) -> None:
    copy = error_from_dict(json.loads(json.dumps(full(kind).to_dict())))
    assert type(copy) is kind
    assert copy == full(kind)
    assert copy.transient is kind.transient


@EVERY_KIND
def test_with_cause_changes_the_cause_alone(kind: type[StagerError]) -> None:
    changed = full(kind).with_cause("rust")
    assert type(changed) is kind
    assert changed.to_dict() == full(kind).to_dict() | {"cause": "rust"}


def test_an_unknown_code_becomes_a_remote_error_that_still_tells_everything() -> None:
    data = full(InputError).to_dict() | {"code": "from-the-future"}
    error = error_from_dict(data)
    assert type(error) is RemoteError
    assert str(error) == "a thing broke: it was old; buy a new one"
    assert error.details["url"] == "https://h/x"


def test_an_unknown_code_keeps_whether_trying_again_helps() -> None:
    data = full(InputError).to_dict() | {"code": "from-the-future", "transient": True}
    assert error_from_dict(data).transient is True
    assert error_from_dict(error_from_dict(data).to_dict()).transient is True


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"code": None},
        {"code": "bad-input"},
        {"code": "bad-input", "details": None},
        {"code": "bad-input", "details": {"what": 1, "cause": 2, "remedy": 3, "self": 4}},
        {"code": "bad-input", "details": ["not", "an", "object"]},
        {"code": [], "what": 3, "cause": {}, "remedy": None},
    ],
)
def test_a_broken_record_is_still_an_error_that_can_be_shown(data: dict[str, Any]) -> None:
    error = error_from_dict(data)
    assert isinstance(error, StagerError)
    assert str(error)
    assert pickle.loads(pickle.dumps(error)) == error


def test_an_error_reads_as_one_sentence_of_what_is_there() -> None:
    assert str(StagerError("x")) == "x"
    assert str(StagerError("x", cause="c")) == "x: c"
    assert str(StagerError("x", remedy="r")) == "x; r"
    assert str(StagerError("x", cause="c", remedy="r")) == "x: c; r"


def test_equal_errors_have_equal_hashes_and_different_ones_differ() -> None:
    assert hash(full(InputError)) == hash(full(InputError))
    assert full(InputError) != full(FetchError)
    assert InputError("x", a=1) != InputError("x", a=2)
    assert InputError("x") != "x"


def test_a_pickled_traceback_and_cause_do_not_stop_an_error_from_travelling() -> None:
    error = InputError("x")
    error.__cause__ = KeyError("y")
    error.add_note("seen on the way")
    with pytest.raises(InputError) as raised:
        raise error
    assert pickle.loads(pickle.dumps(raised.value)) == InputError("x")


def test_the_wait_that_the_origin_asked_for_is_read_from_the_details() -> None:
    assert OriginBusyError("x", retry_after="7").retry_after == 7.0
    assert OriginBusyError("x", retry_after=0).retry_after == 0.0
    assert OriginBusyError("x").retry_after is None


def test_a_wrong_digest_is_permanent_and_a_busy_origin_is_not() -> None:
    assert DigestMismatchError.transient is False
    assert OriginBusyError.transient is True

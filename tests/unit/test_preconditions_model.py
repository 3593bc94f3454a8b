from __future__ import annotations

import pytest

from stager.errors import InputError
from stager.model.preconditions import check_precondition_name


@pytest.mark.parametrize("name", ["a", "7", "beam-on", "run:42", "a.b_c@d+e=f", "a" * 200])
def test_letters_digits_and_a_few_signs_make_a_name(name: str) -> None:
    assert check_precondition_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a\n", ".a", "-a", "a/b", "..", "ä", "٣", "a" * 201, "a\0", "*"]
)
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        check_precondition_name(name)


def test_a_url_is_pointed_to_where_it_belongs() -> None:
    with pytest.raises(InputError, match="as an input"):
        check_precondition_name("https://h/a")


def test_a_url_given_by_mistake_shows_no_password() -> None:
    with pytest.raises(InputError) as refusal:
        check_precondition_name("https://user:hunter2@h/a?token=hunter2")
    assert "hunter2" not in str(refusal.value)


def test_a_name_that_is_too_long_says_so() -> None:
    with pytest.raises(InputError, match="too long"):
        check_precondition_name("a" * 201)

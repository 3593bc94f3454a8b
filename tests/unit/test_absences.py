"""Point 45: that a file is not there is remembered for a short, bounded time, and for whom it was said."""

from __future__ import annotations

import pytest

from stager.errors import OriginBusyError, OriginRefusedError
from stager.model.fetches import FetchRequest
from stager.transfer.absences import MOST, Absences

URL = "http://h.test/f"


def error(status: int = 404) -> OriginRefusedError:
    return OriginRefusedError("f can't be fetched", cause=f"{status} Not There", url=URL, status=status)


def knows(absences: Absences, request: FetchRequest, now: float) -> bool:
    try:
        absences.check(request, now)
    except OriginRefusedError:
        return True
    return False


@pytest.mark.parametrize("status", [404, 410])
def test_point_45_an_absence_is_remembered_for_its_time(status: int) -> None:
    absences = Absences(5.0)
    absences.note(FetchRequest(URL), error(status), 100.0)
    with pytest.raises(
        OriginRefusedError, match=f"{status} Not There 2 s ago; it is asked again in 3 s"
    ) as caught:
        absences.check(FetchRequest(URL), 102.0)
    absences.note(FetchRequest(URL), caught.value, 104.0)  # what was only repeated lasts no longer
    assert not knows(absences, FetchRequest(URL), 105.0)


def test_point_45_it_is_for_who_asked_and_not_for_who_asks_anew_or_elsewhere() -> None:
    absences = Absences(5.0)
    absences.note(FetchRequest(URL, owner="ada"), error(), 100.0)
    assert knows(absences, FetchRequest(URL, owner="ada"), 101.0)
    others = [
        FetchRequest(URL, owner="bob"),
        FetchRequest(URL + "2", owner="ada"),
        FetchRequest(URL, owner="ada", refresh=True),
        FetchRequest(URL, owner="ada", mirrors=("http://m.test/f",)),
    ]
    assert not [other for other in others if knows(absences, other, 101.0)]
    assert not knows(absences, FetchRequest(URL, owner="ada"), 99.0), "the clock was set back"


@pytest.mark.parametrize(
    "other", [error(403), error(401), error(451), OriginBusyError("f", status=404), ValueError()]
)
def test_point_45_nothing_else_is_remembered(other: BaseException) -> None:
    absences = Absences(5.0)
    absences.note(FetchRequest(URL), other, 100.0)
    assert not knows(absences, FetchRequest(URL), 100.0)


def test_point_45_a_site_can_do_without_and_no_memory_grows_for_ever() -> None:
    never = Absences(0.0)
    never.note(FetchRequest(URL), error(), 100.0)
    assert not knows(never, FetchRequest(URL), 100.0)
    absences = Absences(5.0)
    for number in range(MOST + 1):
        absences.note(FetchRequest(f"{URL}{number}"), error(), 100.0)
    assert not knows(absences, FetchRequest(f"{URL}0"), 100.0)
    assert knows(absences, FetchRequest(f"{URL}{MOST}"), 100.0)

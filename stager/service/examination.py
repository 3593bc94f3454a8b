"""Looking at every part of the installation: all of them, though one fails or hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from stager.errors import StagerError
from stager.model.checks import Checked, Health
from stager.model.redaction import redacted_text


@dataclass(frozen=True, slots=True)
class Check:
    """One look.

    Attributes:
        name: under which it is reported when it fails or hangs.
        look: answers one or several questions; whatever it raises is an answer as well.
    """

    name: str
    look: Callable[[], Sequence[Checked]]


def examine(checks: Sequence[Check], seconds: float) -> Iterator[Checked]:
    """Do all at once; their answers in the order of `checks`.

    One that has not answered `seconds` after the beginning is reported as failed and left alone: a look at a
    mount whose server is gone can't be ended.
    """
    end = time.monotonic() + seconds
    asked: list[tuple[Check, SimpleQueue[list[Checked]]]] = []
    for check in checks:
        answer: SimpleQueue[list[Checked]] = SimpleQueue()
        asked.append((check, answer))
        threading.Thread(target=_look, args=(check, answer), name=f"check {check.name}", daemon=True).start()
    for check, answer in asked:
        try:
            yield from answer.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            remedy = "look for a mount or a host that does not answer; --timeout gives it more time"
            yield Checked(check.name, Health.FAILED, f"no answer within {seconds:g} s", remedy)


def _look(check: Check, answer: SimpleQueue[list[Checked]]) -> None:
    try:
        answer.put(list(check.look()))
    except StagerError as error:
        found = f"{error.what}: {error.cause}" if error.cause else error.what
        answer.put([Checked(check.name, Health.FAILED, redacted_text(found), redacted_text(error.remedy))])
    except Exception as error:  # noqa: BLE001 - one part's fault must not hide the others
        found = f"{type(error).__name__}: {error}"
        answer.put([Checked(check.name, Health.FAILED, redacted_text(found))])

"""How several streams end when whoever waits for them is interrupted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from stager.transfer.asks import Rest
from stager.transfer.segments import Segments


class Bare(Segments):
    """With streams that are never asked."""

    def __init__(self) -> None:
        self.given_back = 0
        self._buffers = cast("Any", SimpleNamespace(take=lambda: memoryview(b""), give=self._give))
        self._spans = cast("Any", SimpleNamespace(complete=True))

    def _give(self, _: object) -> None:
        self.given_back += 1

    def _save(self) -> None:
        pass

    def _advance(self) -> None:
        pass

    def _lead(self, *_: object) -> Any:
        yield "the front"


def test_a_second_interrupt_does_not_end_the_wait_for_those_that_still_write() -> None:
    segments = Bare()
    steps = segments.bring(cast("Any", None), cast("Any", None))
    assert next(steps) == cast("Any", "the front")
    for number in range(3):
        rest = steps.throw(KeyboardInterrupt(str(number)))
        assert isinstance(rest, Rest)
        assert rest.stop
        assert segments.given_back == 0, "the buffers, and then the file, are theirs"
    assert isinstance(steps.send(False), Rest)
    with pytest.raises(KeyboardInterrupt):
        steps.send(True)
    assert segments.given_back == 1

"""Plots: every byte has its place, whatever the numbers are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stager.model.catalogue import Share
from stager.model.flow import MINUTE, Minute
from stager.server.pages.plots import MOST_TILES, bars, course, treemap

SHARES = st.lists(st.integers(0, 10**15), max_size=60).map(
    lambda sizes: [Share(f"h{n}", 1, size) for n, size in enumerate(sorted(sizes, reverse=True))]
)


@given(SHARES)
def test_tiles_fill_the_picture_in_proportion_and_do_not_lie_on_each_other(shares: list[Share]) -> None:
    tiles = treemap(shares)
    total = sum(share.bytes for share in shares)
    assert sum(tile.share.bytes for tile in tiles) == total
    assert len(tiles) <= MOST_TILES + 1
    if not total:
        assert tiles == []
        return
    assert abs(sum(tile.width * tile.height for tile in tiles) - 1e4) < 60
    for tile in tiles:
        assert tile.x >= -0.02
        assert tile.x + tile.width <= 100.05
        assert tile.y >= -0.02
        assert tile.y + tile.height <= 100.05
        assert abs(tile.width * tile.height / 1e4 - tile.share.bytes / total) < 0.005
    for number, one in enumerate(tiles):
        for other in tiles[number + 1 :]:
            wide = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            high = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert wide <= 0.05 or high <= 0.05


def test_many_origins_share_a_tile_that_leads_nowhere() -> None:
    tiles = treemap([Share(f"h{n}", 2, 100) for n in range(40)])
    assert len(tiles) == MOST_TILES + 1
    assert (tiles[-1].share.name, tiles[-1].share.files, tiles[-1].is_link) == ("16 others", 32, False)
    assert all(tile.is_link for tile in tiles[:-1])


def test_bars_are_as_long_as_their_part_of_the_longest() -> None:
    found = bars([Share("a", 1, 50), Share("b", 1, 200), Share("c", 0, 0)])
    assert [bar.percent for bar in found] == [25.0, 100.0, 0.0]
    assert [bar.percent for bar in bars([Share("a", 0, 0)])] == [0.0]


def test_the_course_puts_minutes_together_and_leaves_out_what_is_too_old() -> None:
    minutes = [Minute(n * MINUTE, bytes=600, hits=1, misses=3) for n in range(25)]
    found = course(minutes, at_once=10, slots=2)
    assert [slot.at for slot in found.slots] == [600.0, 1200.0]
    assert [slot.hits for slot in found.slots] == [10, 5]
    assert [slot.speed for slot in found.slots] == [10.0, 5.0]
    assert [slot.percent for slot in found.slots] == [100.0, 50.0]
    assert (found.bytes, found.ratio, found.fastest) == (9000, 0.25, 10.0)


def test_a_course_of_nothing_has_no_ratio() -> None:
    assert course([], 1, 180).slots == []
    found = course([Minute(0.0)], 1, 3)
    assert [slot.ratio for slot in found.slots] == [None] * 3
    assert (found.ratio, found.fastest) == (None, 0.0)

from __future__ import annotations

from stager.farm.sizing import HOLD, Reading, Sizing


def waits(done: int) -> Reading:
    return Reading(wall=0.1, cpu=0.02, done=done)


def test_a_process_that_computes_all_the_time_keeps_one_thread() -> None:
    sizing = Sizing(16)
    assert [sizing.read(Reading(wall=0.1, cpu=0.095, done=100)) for _ in range(5)] == [1] * 5


def test_threads_double_while_the_process_waits_and_throughput_grows_with_them() -> None:
    sizing = Sizing(16)
    sizes = [sizing.read(waits(done)) for done in (10, 20, 40, 80, 160, 160)]
    assert sizes == [2, 4, 8, 16, 16, 16]


def test_growth_that_brings_nothing_is_taken_back_and_not_tried_again_soon() -> None:
    sizing = Sizing(16)
    assert [sizing.read(waits(done)) for done in (10, 20, 20)] == [2, 4, 2]
    assert {sizing.read(waits(20)) for _ in range(HOLD - 1)} == {2}
    assert sizing.read(waits(20)) == 4


def test_large_files_that_complete_rarely_do_not_count_as_a_loss() -> None:
    sizing = Sizing(8)
    assert [sizing.read(waits(done)) for done in (1, 0, 0)] == [2, 4, 8]


def test_the_upper_bound_need_not_be_a_power_of_two() -> None:
    sizing = Sizing(3)
    assert [sizing.read(waits(done)) for done in (10, 20, 40, 40)] == [2, 3, 3, 3]


def test_threads_that_stand_in_each_others_way_are_halved() -> None:
    sizing = Sizing(16)
    for done in (10, 20, 40):
        sizing.read(waits(done))
    assert sizing.size == 8
    crowded = Reading(wall=0.1, cpu=0.2, done=100)
    assert [sizing.read(crowded) for _ in range(4)] == [4, 2, 1, 1]

"""One of several processes of a host does something, the others wait; who is killed holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from stager.cache.flight import flight
from tests.support.until import until

_HOLDER = """
import sys, time
from pathlib import Path
from stager.cache.flight import flight
with flight(Path(sys.argv[1]), lambda: False) as ours:
    print(ours, flush=True)
    time.sleep(600)
"""


def held_by_another_process(path: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    return holder


def test_of_many_threads_one_at_a_time_has_it_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside, most, turns = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(20):
            with flight(path, lambda: False) as ours:
                assert ours
                with guard:
                    inside += 1
                    most = max(most, inside)
                    turns += 1
                os.sched_yield()
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, turns) == (1, 80)
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_is_killed_holds_nobody_up(tmp_path: Path) -> None:
    holder = held_by_another_process(tmp_path / "lock")
    got: list[bool] = []

    def wait() -> None:
        with flight(tmp_path / "lock", lambda: False) as ours:
            got.append(ours)

    thread = threading.Thread(target=wait)
    thread.start()
    assert got == []
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    thread.join(60)
    assert got == [True]


def test_who_gives_up_waiting_does_not_have_it(tmp_path: Path) -> None:
    holder = held_by_another_process(tmp_path / "lock")
    asked = threading.Event()

    def cancelled() -> bool:
        asked.set()
        return True

    with flight(tmp_path / "lock", cancelled) as ours:
        assert not ours
    assert asked.is_set()
    assert (tmp_path / "lock").exists(), "it is another's"
    holder.kill()
    holder.communicate()
    until(lambda: holder.returncode is not None, "it is over")

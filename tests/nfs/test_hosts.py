"""The hosts of the other tests do what those rely on."""

from __future__ import annotations

import pytest

from tests.support.guests import Guest, GuestError
from tests.support.hosts import PYTHON, Hosts
from tests.support.origin import Origin, content
from tests.support.pair import Pair
from tests.support.until import until

pytestmark = pytest.mark.timeout(300)  # guests are slow where others work too

READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def reads(guest: Guest, url: str) -> str | None:
    """What the guest reads there; None if it can't."""
    done = guest.run([*PYTHON, "-c", READ, url])
    return None if done.status else done.stdout.strip()


def test_a_guest_that_is_cut_off_reaches_nothing_until_that_is_healed(hosts: Hosts, origin: Origin) -> None:
    guest, other = hosts.guests
    url = origin.serve("/a", content(b"data"))
    assert reads(guest, url) == "data"
    hosts.cut_off(guest)
    assert reads(guest, url) is None
    assert reads(other, url) == "data"
    hosts.heal()
    assert reads(guest, url) == "data"


def test_a_command_that_was_started_is_waited_for_and_killed(hosts: Hosts) -> None:
    guest = hosts.guests[0]
    started = guest.start(["sh", "-c", "cat; echo $word; exec sleep 1000"], env={"word": "b"}, stdin="a\n")
    until(lambda: started.wait(0).stdout == "a\nb\n", "it says all it has to say")
    assert started.wait(0).status is None
    started.kill()
    done = started.wait(10)
    assert (done.status, done.stdout) == (-9, "a\nb\n")


def test_a_command_that_takes_too_long_is_ended(hosts: Hosts) -> None:
    done = hosts.guests[0].run(["sh", "-c", "echo a; sleep 1000"], timeout=0.5)
    assert (done.status, done.stdout) == (None, "a\n")


def test_an_error_in_a_called_function_says_where(hosts: Hosts) -> None:
    with pytest.raises(GuestError, match=r"alpha: .*(?s:.)*no-such-directory"):
        hosts.guests[0].call("os:listdir", "/no-such-directory")


def test_the_trouble_with_names_that_were_looked_for_too_early_is_there(pair: Pair) -> None:
    """Else the tests of how it is overcome would prove nothing."""
    assert pair.second.run(["mkdir", pair.root]).status == 0  # what is known of it is a moment old
    path = f"{pair.root}/early"
    assert pair.second.call("os.path:exists", path) is False
    assert pair.first.run(["touch", path]).status == 0
    assert pair.second.call("os.path:exists", path) is False
    assert pair.second.call("os:listdir", pair.root) == ["early"]
    assert pair.second.call("os.path:exists", path) is True

"""Where the fetches of a test may reach: this machine, where the origins of tests are."""

from __future__ import annotations

from ipaddress import ip_network

from stager.transfer.addresses import AddressPolicy
from stager.transfer.reach import Reach

THIS_MACHINE = AddressPolicy([ip_network("127.0.0.0/8")])
LOOPBACK = Reach(THIS_MACHINE)

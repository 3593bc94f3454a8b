"""Clearing away what killed processes of this host left and nobody can go on with."""

from __future__ import annotations

import os

from stager.cache.entry_removal import give_back_entries
from stager.cache.files import remove_quietly
from stager.cache.layout import PARTIAL
from stager.cache.owner import is_alive, is_here
from stager.cache.tree import Tree

_USELESS = (".tmp", ".json.new")
"""Endings of what is never gone on with: bytes of no key in particular, and a sidecar that was not finished."""


def sweep(tree: Tree) -> int:
    """Delete temporaries that are not resumable and whose owner is proved dead; how many there were.

    Partial files stay: the next fetch of their key goes on with them. What belongs to another host
    stays too, since nothing is known of its owner. Entries that a killed eviction had put aside get their names back.
    """
    count = give_back_entries(tree)
    for folder, _, names in os.walk(f"{tree.root}/{PARTIAL}"):
        for name in names:
            ending = next((e for e in _USELESS if name.endswith(e)), "")
            owner = name.removesuffix(ending).rpartition(".")[2]
            if ending and is_here(owner) and not is_alive(owner):
                remove_quietly(f"{folder}/{name}")
                count += 1
    return count

"""Commands as templates: split into words once, filled in word by word, never seen by a shell."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from string import Formatter

from stager.errors import SettingsError

Value = str | Sequence[str]
"""What a placeholder stands for; several values become several words, or one word with commas."""


class CommandTemplate:
    """A command with placeholders such as ``{job}``; ``{{`` and ``}}`` are braces.

    Args:
        setting: the name of the setting, for complaints.
        text: its value, quoted as in a shell.
        known: the placeholders that there are.

    Raises:
        SettingsError: no command, open quotes or braces, or an unknown placeholder.
    """

    def __init__(self, setting: str, text: str, known: Collection[str]) -> None:
        there_are = ", ".join(f"{{{name}}}" for name in known)
        try:
            words = shlex.split(text)
            self._words = [_pieces(word) for word in words]
        except ValueError as error:
            raise SettingsError(
                f"setting {setting} = {text!r}",
                cause=f"it can't be split into words: {error}",
                remedy="close the quotes; write {{ and }} for braces",
            ) from None
        if not words:
            raise SettingsError(
                f"setting {setting} is empty",
                cause="a batch system needs the command",
                remedy=f"give it one; placeholders are {there_are}",
            )
        self.names = frozenset(name for word in self._words for _, name in word if name is not None)
        for name in sorted(self.names):
            if name not in known:
                raise SettingsError(
                    f"unknown placeholder {{{name}}} in setting {setting}",
                    cause=f"there are {there_are}",
                    remedy="write {{ and }} for braces that are meant as such",
                )

    def words(self, values: Mapping[str, Value]) -> list[str]:
        """The command for these values; a word that is one placeholder becomes as many words as it has values."""
        filled: list[str] = []
        for pieces in self._words:
            if len(pieces) == 1 and pieces[0][1] is not None and not pieces[0][0]:
                value = values[pieces[0][1]]
                filled += [value] if isinstance(value, str) else value
            else:
                filled.append("".join(text + _joined(values, name) for text, name in pieces))
        return filled


def _pieces(word: str) -> list[tuple[str, str | None]]:
    """Texts, each with the placeholder that follows it."""
    found = [
        (text, name if name is None else f"{name}{'!' + how if how else ''}{':' + form if form else ''}")
        for text, name, form, how in Formatter().parse(word)
    ]
    return found or [("", None)]


def _joined(values: Mapping[str, Value], name: str | None) -> str:
    if name is None:
        return ""
    value = values[name]
    return value if isinstance(value, str) else ",".join(value)

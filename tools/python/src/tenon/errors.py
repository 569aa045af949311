"""What goes wrong, as one exception type with the messages of the command where there are any."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A message of a tenon command: what is wrong, and where."""

    severity: str
    """error, warning or note"""
    text: str
    file: str = ""
    line: int = 0
    where: str = ""
    """the node, tensor or key that it is about"""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        place = f"{place} ({self.where})" if place and self.where else place or self.where
        return f"{place}: {self.text}" if place else self.text


class TenonError(RuntimeError):
    """A model or a request that tenon refuses. `messages` holds all that the command said, `status` the status of a call
    into an artefact (TN_* of tenon/plugin.h) or the exit status of a command."""

    def __init__(self, text: str, *, messages: Sequence[Message] = (), status: int = 0) -> None:
        super().__init__(text)
        self.messages = tuple(messages)
        self.status = status


class TenonNotFoundError(TenonError, FileNotFoundError):
    """The tenon command, or a file that a model needs, is not there."""

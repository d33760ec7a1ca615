"""What connectors share: streams made from a function, and the seam that a connector fills.

In: a connector's reading functions. Out: ``Stream`` objects. Never reads anything itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from orchestration.sources.live.errors import ShapeChanged
from orchestration.sources.protocol import Page, SourceError, Stream

logger = logging.getLogger(__name__)
Read = Callable[[datetime | None, datetime], Iterator[Page]]


class Connector(Protocol):
    """One provider, or one kind of data from interchangeable providers."""

    @property
    def provider(self) -> str: ...

    def streams(self) -> Sequence[Stream]:
        """Everything that it can be read for; opens no connection."""
        ...

    def probe(self) -> str:
        """Ask for one row, without retries of our own making, and say what came. Raises ``ProviderError``."""
        ...


@dataclass(frozen=True)
class LiveStream:
    """A ``Stream`` of a live provider. ``read`` gives pages; ``notes`` is filled while it runs.

    ``snapshot``: gives only what is there at the moment of reading, so it is captured between daily runs too.
    """

    name: str
    table: str
    provider: str
    read: Read
    assets: tuple[str, ...] = ()
    overlap: timedelta = timedelta(0)
    snapshot: bool = False
    punctual: bool = False
    current: bool = True
    noted: Callable[[], Sequence[str]] = field(default=tuple)

    def pages(self, known_after: datetime | None, known_until: datetime) -> Iterator[Page]:
        """See ``Stream.pages``. What a connector did not foresee in an answer is a changed shape too, and in the log in full."""
        try:
            yield from self.read(known_after, known_until)
        except SourceError:
            raise
        except (ArithmeticError, ValueError, RecursionError) as error:  # others are faults of ours
            logger.exception("%s: an answer that the connector did not foresee", self.name)
            detail = f"cannot be read: {type(error).__name__}: {str(error)[:200]}"
            raise ShapeChanged(self.provider, self.name, detail) from error

    def notes(self) -> Sequence[str]:
        """See ``Stream.notes``."""
        return self.noted()

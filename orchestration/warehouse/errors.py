"""What goes wrong at the door of the warehouse."""

from __future__ import annotations


class WarehouseError(RuntimeError):
    """The warehouse cannot be used as asked; the message says what to do."""


class Locked(WarehouseError):
    """Another process held the lock for longer than this one may wait."""


class Conflict(WarehouseError):
    """Another writer of the lake committed first: nothing was stored, and the same write can be tried again."""


class NothingStored(WarehouseError):
    """Nothing was ever written there, and a reader makes nothing."""

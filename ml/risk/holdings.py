"""A portfolio as a file of weights, read strictly.

In: a CSV file with the header asset,weight, or JSON as {"BTC": 0.6, "ETH": -0.2}: fractions of the capital, negative = short; they
need not sum to 1. Out: a `Portfolio`. Never: an entry that was skipped, rounded, rescaled or guessed; what cannot be used is an
error that names the file, the entry and what was expected.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import numbers
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_BYTES = 1_000_000
"""Thousands of coins fit; a file that is larger is no list of weights."""
LARGEST_WEIGHT = 20.0
"""In capitals: 60 for 60 % would be a position of sixty times the capital."""
HEADER = ["asset", "weight"]
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_LONGEST_QUOTE = 40
_EXPECTED = "expected a fraction of the capital such as 0.6 or -0.2"


class PortfolioError(ValueError):
    """A portfolio that cannot be used; the message names the entry."""


@dataclass(frozen=True)
class Portfolio:
    """Weights by coin, fractions of the capital; from a file in the order of the tickers.

    Raises `PortfolioError` that names the entry for a weight that is no finite number or above 20 capitals, and where there is no
    position at all.
    """

    name: str
    weights: dict[str, float]

    def __post_init__(self) -> None:
        for asset, weight in self.weights.items():
            if not isinstance(asset, str):
                raise PortfolioError(
                    f"{self.name}: coin {_quoted(str(asset))} is {type(asset).__name__}: expected a ticker such as BTC"
                )
            if isinstance(weight, str):
                raise PortfolioError(
                    f"{self.name}: weight {_quoted(weight)} of {_quoted(asset)} is str: {_EXPECTED}"
                )
            _weight(self.name, asset, weight)
        _require_position(self.name, self.weights)

    @property
    def weights_hash(self) -> str:
        """sha256 of the weights, 12 hex digits: the same for CSV and JSON and in any order of entries."""
        text = json.dumps({asset: float(weight) for asset, weight in self.weights.items()})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def require_known(self, coins: Collection[str]) -> None:
        """Raise `PortfolioError` that names a coin which is not one of `coins`."""
        for asset in self.weights:
            if asset not in coins:
                raise PortfolioError(
                    f"{self.name}: coin {_quoted(asset)} is unknown: expected one of {', '.join(sorted(coins))}"
                )


def portfolio_name(path: Path) -> str:
    """A portfolio is called as its file, without the suffix."""
    return path.stem


def read_portfolio(path: Path) -> Portfolio:
    """Read a file. Raises `PortfolioError` for one that is not there, not text, too large, or has a bad entry."""
    text = _text(path)
    if path.suffix.lower() == ".csv":
        entries = list(_csv_entries(path, text))
    elif path.suffix.lower() == ".json":
        entries = _json_entries(path, text)
    else:
        raise PortfolioError(
            f"{path}: suffix {path.suffix!r}: expected .csv (asset,weight) or .json"
        )
    weights: dict[str, float] = {}
    for where, asset, value in entries:
        if asset in weights:
            raise PortfolioError(
                f"{path}{where}: coin {_quoted(asset)} is there twice: expected each once"
            )
        weights[asset] = _weight(f"{path}{where}", asset, value)
    _require_position(str(path), weights)
    return Portfolio(portfolio_name(path), dict(sorted(weights.items())))


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "not there"
            raise PortfolioError(f"{path}: {what}: expected a file of weights")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise PortfolioError(
                f"{path}: {size} bytes: expected a file of weights of at most {MOST_BYTES}"
            )
        content = path.read_bytes()
    except OSError as error:
        raise PortfolioError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PortfolioError(
            f"{path}: byte {error.start} is not UTF-8: expected a text file"
        ) from None
    if "\0" in text:
        raise PortfolioError(f"{path}: holds a zero byte: expected a text file")
    return text


def _csv_entries(path: Path, text: str) -> Iterable[tuple[str, str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    try:
        for row in reader:
            if not any(field.strip() for field in row):
                continue
            where = f", line {reader.line_num}"
            fields = [field.strip() for field in row]
            if header is None:
                header = fields
                if header != HEADER:
                    raise PortfolioError(
                        f"{path}{where}: header {_quoted(','.join(header))}: expected asset,weight"
                    )
            elif len(fields) != len(HEADER):
                raise PortfolioError(
                    f"{path}{where}: {len(fields)} fields, {_quoted(','.join(fields))}: expected asset,weight"
                )
            else:
                yield where, fields[0], fields[1]
    except csv.Error as error:
        raise PortfolioError(f"{path}, line {reader.line_num}: not CSV: {error}") from None
    if header is None:
        raise PortfolioError(f"{path}: empty: expected the header asset,weight and a line per coin")


def _json_entries(path: Path, text: str) -> list[tuple[str, str, Any]]:
    if not text.strip():
        raise PortfolioError(f'{path}: empty: expected weights such as {{"BTC": 0.6}}')
    try:
        pairs = json.loads(text, object_pairs_hook=_Pairs)
    except (json.JSONDecodeError, RecursionError, ValueError) as error:
        raise PortfolioError(f"{path}: not JSON: {_quoted(str(error))}") from None
    if not isinstance(pairs, _Pairs):
        raise PortfolioError(
            f'{path}: {type(pairs).__name__} {_quoted(_shown(pairs))}: expected an object such as {{"BTC": 0.6}}'
        )
    return [("", asset, value) for asset, value in pairs]


class _Pairs(list[tuple[str, Any]]):
    """An object's entries as they stand, repeated names included."""


def _require_position(where: str, weights: Mapping[str, float]) -> None:
    if not weights:
        raise PortfolioError(f"{where}: no weights: expected at least one coin")
    if not any(weights.values()):
        raise PortfolioError(f"{where}: every weight is 0: expected at least one position")


def _weight(where: str, asset: str, value: Any) -> float:
    if not asset:
        raise PortfolioError(
            f"{where}: weight {_quoted(_shown(value))} without a coin: expected both"
        )
    label = f"{where}: weight {_quoted(_shown(value))} of {_quoted(asset)}"
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise PortfolioError(f"{label}: {_EXPECTED}")
    elif isinstance(value, bool) or not isinstance(value, numbers.Real):
        kind = "an object" if isinstance(value, _Pairs) else type(value).__name__
        raise PortfolioError(f"{label} is {kind}: {_EXPECTED}")
    try:
        weight = float(value)
    except OverflowError:
        weight = math.inf
    if not math.isfinite(weight):
        raise PortfolioError(f"{label}: {_EXPECTED}")
    if abs(weight) > LARGEST_WEIGHT:
        raise PortfolioError(
            f"{label}: expected at most {LARGEST_WEIGHT:g} times the capital (60 % is 0.6)"
        )
    return weight + 0.0  # -0.0 and 0.0 are one position


def _shown(value: Any) -> str:
    """A value of JSON as text, objects and lists within it as {…} and […]."""
    if isinstance(value, _Pairs):
        return "{" + ", ".join(f'"{name}": {_inner(entry)}' for name, entry in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inner, value)) + "]"
    return str(value)


def _inner(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "{…}"
    return "[…]" if isinstance(value, list) else repr(value)


def _quoted(text: str) -> str:
    shown = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
    return repr(shown)

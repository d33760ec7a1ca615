"""Faults in settings and in portfolio files. Out: ``FAULTS``; ``make(folder)`` does what a user would do, and fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ml.risk.holdings import read_portfolio
from orchestration.settings import Settings
from orchestration.sources import open_source
from tests.bad_data.corpus import Refused, SettingFault


def setting(name: str, message: str, **values: str) -> SettingFault:
    variables = {f"VOLCAST_{key.upper()}": value for key, value in values.items()}
    outcome = Refused(rf"VOLCAST_{next(iter(values)).upper()}: .*{message}")
    return SettingFault(name, "settings", outcome, lambda folder: Settings.from_env(variables))


def archive(name: str, message: str, place: str) -> SettingFault:
    """VOLCAST_ARCHIVE within the folder of the test."""

    def make(folder: Path) -> object:
        value = place.format(folder=folder)
        return open_source(
            Settings.from_env({"VOLCAST_SOURCE": "archive", "VOLCAST_ARCHIVE": value})
        )

    return SettingFault(name, "settings", Refused(message), make)


def portfolio(
    name: str, message: str, content: str | bytes, file: str = "desk.csv"
) -> SettingFault:
    def make(folder: Path) -> object:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_portfolio(folder / file)

    return SettingFault(name, "portfolio files", Refused(message), make)


def instead(name: str, message: str, make: Callable[[Path], object]) -> SettingFault:
    """Something else in the place of the portfolio."""

    def read(folder: Path) -> object:
        make(folder / "desk.csv")
        return read_portfolio(folder / "desk.csv")

    return SettingFault(name, "portfolio files", Refused(message), read)


HEADER = "asset,weight\n"
FAULTS: list[SettingFault] = [
    setting("SQL in the list of coins", "expected an upper-case ticker", assets="BTC,ETH'); DROP TABLE raw.ohlcv; --"),
    setting("a path in the list of coins", "expected an upper-case ticker", assets="../../etc/passwd"),
    setting("a coin in Cyrillic look-alikes", "expected an upper-case ticker", assets="ВТС"),
    setting("a mirror that is a file", "expected NAME=http", base_urls="*=file:///etc/passwd"),
    setting("a feed that is a file", "expected NAME=http", headline_feeds="desk=file:///etc/passwd"),
    setting("JSON 100,000 deep in a setting", "expected JSON such as", attention_config="[" * 100_000),
    setting("infinity as a limit", "finite number", leverage_max_change="inf"),
    archive("an archive that is not there", "no such folder", "{folder}/nothing"),
    archive("an archive that is a file", "no such folder", "/etc/passwd"),
    archive("an archive up and out of a folder", "no such folder", "{folder}/../../../nowhere"),
    archive("a NUL byte in the archive's path", "null byte", "{folder}/\0"),
    portfolio("NaN as a weight", "weight 'nan' of 'BTC': expected a fraction", HEADER + "BTC,nan\n"),
    portfolio("a weight in percent", "at most 20 times the capital", HEADER + "BTC,60\n"),
    portfolio("a weight with a decimal comma", "3 fields", HEADER + "BTC,0,5\n"),
    portfolio("a coin twice in a portfolio", "is there twice", HEADER + "BTC,0.5\nBTC,0.5\n"),
    portfolio("a formula as a weight", "expected a fraction", HEADER + "BTC,=1+1\n"),
    portfolio("a portfolio that is no text", "not UTF-8", b"\xff\xfe\x00"),
    portfolio("a portfolio with a NUL byte", "zero byte", HEADER + "BTC\0,1\n"),
    portfolio("a portfolio of 2 MB", "at most 1000000", "x" * 2_000_000),
    portfolio("JSON 100,000 deep in a portfolio", "not JSON", '{"BTC":' * 100_000, "desk.json"),
    instead("a folder in place of a portfolio", "a folder: expected a file", Path.mkdir),
    instead("a FIFO in place of a portfolio", "expected a file", os.mkfifo),
    instead("a device in place of a portfolio", "expected a file", lambda path: path.symlink_to("/dev/zero")),
]  # fmt: skip

"""Files of weights: what is read, and every way in which one can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ml.risk.holdings import MOST_BYTES, Portfolio, PortfolioError, read_portfolio


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_csv_and_json_are_the_same_portfolio_in_any_order(tmp_path: Path) -> None:
    table = read_portfolio(written(tmp_path, "desk.csv", "asset,weight\nETH, -0.2\n\nBTC,6e-1\n"))
    tree = read_portfolio(written(tmp_path, "desk.json", '{"BTC": 0.6, "ETH": -0.2}'))
    excel = read_portfolio(
        written(tmp_path, "x.csv", "\ufeffasset,weight\r\nBTC,0.6\r\nETH,-.2\r\n")
    )
    assert table.weights == tree.weights == excel.weights == {"BTC": 0.6, "ETH": -0.2}
    assert table.weights_hash == tree.weights_hash == excel.weights_hash
    assert table.name == "desk"
    assert list(table.weights) == ["BTC", "ETH"]
    other = read_portfolio(written(tmp_path, "other.json", '{"BTC": 0.6, "ETH": 0.2}'))
    assert other.weights_hash != tree.weights_hash


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "empty: expected the header asset,weight"),
        ("a.csv", "asset,weight\n", "no weights: expected at least one coin"),
        ("a.csv", "coin,weight\nBTC,1\n", "line 1: header 'coin,weight': expected asset,weight"),
        ("a.csv", "BTC,1\n", "header 'BTC,1': expected asset,weight"),
        ("a.csv", "asset,weight\nBTC,nan\n", "line 2: weight 'nan' of 'BTC': expected a fraction"),
        ("a.csv", "asset,weight\nBTC,inf\n", "weight 'inf' of 'BTC'"),
        ("a.csv", "asset,weight\nBTC,-Infinity\n", "weight '-Infinity' of 'BTC'"),
        ("a.csv", "asset,weight\nBTC,1e999\n", "weight '1e999' of 'BTC'"),
        ("a.csv", "asset,weight\nBTC,much\n", "weight 'much' of 'BTC'"),
        ("a.csv", "asset,weight\nBTC,60%\n", "weight '60%' of 'BTC'"),
        ("a.csv", "asset,weight\nBTC,1_0\n", "weight '1_0' of 'BTC'"),
        ("a.csv", "asset,weight\nBTC,60\n", r"at most 20 times the capital \(60 % is 0.6\)"),
        ("a.csv", "asset,weight\nBTC,\n", "weight '' of 'BTC'"),
        ("a.csv", "asset,weight\n,0.5\n", "weight '0.5' without a coin"),
        ("a.csv", "asset,weight\nBTC\n", "line 2: 1 fields, 'BTC': expected asset,weight"),
        ("a.csv", "asset,weight\nBTC,0,5\n", "line 2: 3 fields, 'BTC,0,5'"),
        ("a.csv", "asset,weight\nBTC,1\nETH,1\nBTC,1\n", "line 4: coin 'BTC' is there twice"),
        ("a.csv", "asset,weight\nBTC,0\nETH,-0.0\n", "every weight is 0"),
        ("a.csv", 'asset,weight\n"BTC,1\n', "not CSV"),
        ("a.csv", b"asset,weight\nBTC,\xff\n", "byte 17 is not UTF-8"),
        ("a.csv", b"asset,weight\nBTC\0,1\n", "zero byte"),
        ("a.csv", b"x" * (MOST_BYTES + 1), f"{MOST_BYTES + 1} bytes: expected"),
        ("a.json", "", "empty: expected weights"),
        ("a.json", "{}", "no weights"),
        ("a.json", '{"BTC": NaN}', "weight 'nan' of 'BTC'"),
        ("a.json", '{"BTC": 1e999}', "weight 'inf' of 'BTC'"),
        ("a.json", '{"BTC": ' + "9" * 400 + "}", "weight '9999"),
        ("a.json", '{"BTC": true}', "weight 'True' of 'BTC' is bool"),
        ("a.json", '{"BTC": null}', "weight 'None' of 'BTC' is NoneType"),
        ("a.json", '{"BTC": [1]}', "of 'BTC' is list"),
        ("a.json", '{"BTC": {"a": 1}}', """weight '{"a": 1}' of 'BTC' is an object: expected a fraction"""),
        ("a.json", '{"BTC": [{"a": 1}]}', "weight '\\[{…}\\]' of 'BTC' is list: expected a fraction"),
        ("a.json", '[{"BTC": 1}]', "list '\\[{…}\\]': expected an object"),
        ("a.json", '{"BTC": 1, "BTC": 2}', "coin 'BTC' is there twice"),
        ("a.json", '["BTC"]', "list .*: expected an object"),
        ("a.json", '{"BTC": 1', "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '{"BTC": ' + "9" * 5000 + "}", "not JSON|weight"),
        ("a.txt", "BTC 1", r"suffix '.txt': expected .csv"),
    ],
)  # fmt: skip
def test_a_bad_file_is_an_error_that_names_the_entry(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(PortfolioError, match=message) as error:
        read_portfolio(written(tmp_path, name, content))
    assert str(tmp_path / name) in str(error.value)
    assert len(str(error.value)) < 400


def test_a_path_that_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(PortfolioError, match=r"nowhere\.csv: not there: expected a file"):
        read_portfolio(tmp_path / "nowhere.csv")
    with pytest.raises(PortfolioError, match="a folder: expected a file"):
        read_portfolio(tmp_path)


def test_an_unknown_coin_is_named(tmp_path: Path) -> None:
    book = read_portfolio(written(tmp_path, "a.json", '{"BTC": 1, "btc": 1}'))
    with pytest.raises(PortfolioError, match="coin 'btc' is unknown: expected one of BTC, ETH"):
        book.require_known({"ETH", "BTC"})


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"BTC": 0.5, "ETH": float("nan")}, "desk: weight 'nan' of 'ETH': expected a fraction"),
        ({"BTC": float("-inf")}, "desk: weight '-inf' of 'BTC'"),
        ({"BTC": np.float64("nan")}, "desk: weight 'nan' of 'BTC'"),
        ({"BTC": 21.0}, "weight '21.0' of 'BTC': expected at most 20 times"),
        ({"BTC": "0.5"}, "weight '0.5' of 'BTC' is str"),
        ({"BTC": True}, "weight 'True' of 'BTC' is bool"),
        ({"BTC": None}, "weight 'None' of 'BTC' is NoneType"),
        ({"": 0.5}, "weight '0.5' without a coin"),
        ({7: 0.5}, "coin '7' is int: expected a ticker"),
        ({"BTC": 0.0, "ETH": -0.0}, "desk: every weight is 0"),
        ({}, "desk: no weights"),
    ],
)
def test_a_portfolio_made_in_code_is_checked_as_a_file_is(weights: dict, message: str) -> None:
    with pytest.raises(PortfolioError, match=message):
        Portfolio("desk", weights)


def test_numbers_of_any_kind_are_weights() -> None:
    assert Portfolio("desk", {"BTC": 1, "ETH": np.float32(0.5), "SOL": np.int64(0)}).weights

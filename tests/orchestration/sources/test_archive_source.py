"""The archive source: layout, point-in-time rules, windows, formats and errors."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.sources.archive import ArchiveSource
from orchestration.sources.headline_id import headline_id
from orchestration.sources.protocol import SourceError
from orchestration.sources.schema import TABLES

FILLED = tuple(table for table in TABLES if table != "order_books")
"""Order books are captured live and nowhere else."""

START = pd.Timestamp("2023-03-01", tz="UTC")
HOUR = pd.Timedelta(hours=1)
DAY = pd.Timedelta(days=1)


@pytest.fixture
def source(tmp_path: Path, frames, write) -> ArchiveSource:
    return ArchiveSource(write(tmp_path, frames, "parquet"))


def test_an_archive_describes_itself(source: ArchiveSource) -> None:
    assert source.assets == ("BTC", "XRP")
    assert (source.first_day(), source.last_day()) == (date(2023, 3, 1), date(2023, 3, 4))
    described = source.describe()
    assert described["source"] == "archive"
    assert "ohlcv/1h.parquet" in described["files"]


@pytest.mark.parametrize("table", FILLED)
def test_every_row_says_archive_and_is_known_only_later(
    source: ArchiveSource, read, table: str
) -> None:
    frame = read(source, table)
    assert len(frame)
    assert (frame["source"] == "archive").all()
    assert (frame["known_at"] > frame["ts"]).all()


def test_bars_are_known_a_minute_after_they_close(source: ArchiveSource, read) -> None:
    frame = read(source, "ohlcv")
    delay = (frame["known_at"] - frame["ts"]).groupby(frame["interval"]).unique()
    assert list(delay["1h"]) == [pd.Timedelta(minutes=61)]
    assert list(delay["5m"]) == [pd.Timedelta(minutes=6)]
    assert frame["trades"].isna().all()


def test_symbols_of_every_venue_map_to_their_coin(source: ArchiveSource, read) -> None:
    frame = read(source, "funding_rates").set_index("symbol")
    assert frame["asset"].to_dict() == {
        "XBTUSD": "BTC",
        "XRP-USD": "XRP",
        "BTC-PERPETUAL(interest_8h)": "BTC",
        "XRP/USDT:USDT": "XRP",
    }


def test_implied_volatility_is_known_when_its_bar_is_over(source: ArchiveSource, read) -> None:
    frame = read(source, "implied_volatility")
    delay = (frame["known_at"] - frame["ts"]).groupby(frame["resolution"]).first()
    assert delay["1h"] == pd.Timedelta(minutes=61)
    assert delay["1d"] == DAY + pd.Timedelta(minutes=1)
    assert set(frame["asset"]) == {"BTC", "ETH"}


def test_chain_metrics_are_known_when_completed_else_at_one_pm(source: ArchiveSource, read) -> None:
    frame = read(source, "onchain_metrics")
    counts = frame[frame["metric"].eq("TxCnt") & frame["provider"].str.contains("csv")]
    known = counts.set_index("ts")["known_at"]
    assert known[START] == START + 37 * HOUR
    assert known[START + DAY] == START + 2 * DAY + 5 * HOUR


def test_exchange_flows_are_known_only_at_their_download(source: ArchiveSource, read) -> None:
    frame = read(source, "onchain_metrics").set_index(["metric"])["known_at"]
    assert frame["FlowInExUSD"] == pd.Timestamp("2023-04-07", tz="UTC")  # end of 2023-04-06
    assert frame["FlowOutExUSD"] == pd.Timestamp("2026-07-01", tz="UTC")  # end of June 2026
    assert frame["SplyExpFut10yr"] == START + 2 * DAY  # a forecast of supply, not a balance


def test_a_flow_that_nobody_can_date_is_left_out_and_counted(
    tmp_path: Path, frames, write, read, caplog: pytest.LogCaptureFixture
) -> None:
    flows = frames["onchain/vintages"].assign(provider="coinmetrics", metric="FlowInExUSD")
    frames["onchain/vintages"] = flows
    source = ArchiveSource(write(tmp_path, frames, "parquet"))
    with caplog.at_level(logging.WARNING):
        frame = read(source, "onchain_metrics")
    assert "coinmetrics" not in set(frame["provider"])
    assert "vintages.parquet: 2 rows left out" in caplog.text


def test_stablecoins_and_sentiment_follow_their_delays(source: ArchiveSource, read) -> None:
    coins = read(source, "onchain_metrics").set_index("asset")
    delay = coins["known_at"] - coins["ts"]
    assert delay["USDC"] == 37 * HOUR
    assert delay["ALL_STABLES"] == 12 * HOUR
    moods = read(source, "sentiment_metrics").set_index("metric")
    assert ((moods["known_at"] - moods["ts"]) / HOUR).to_dict() == {
        "fear_greed": 1,
        "market_news_positive_count": 25,
        "gdelt_S_gdelt_raw": 192,
        "wikipedia_pageviews": 48,
        "reddit_posts_volume": 36,
        "never_seen_before": 36,
    }
    assert moods.loc["wikipedia_pageviews", "asset"] == "BTC"
    assert moods.loc["fear_greed", "asset"] == "MARKET"
    assert moods.loc["fear_greed", "label"] == "Fear"


def test_headlines_have_a_stable_id_and_a_date_without_time_waits_a_day(
    source: ArchiveSource, read
) -> None:
    frame = read(source, "headlines").sort_values("ts").reset_index(drop=True)
    five = pd.Timedelta(minutes=5)
    assert list(frame["known_at"] - frame["ts"]) == [DAY + five, five, five]
    for row in frame.itertuples():
        url = None if pd.isna(row.url) else row.url
        stamp = (row.ts - pd.Timestamp(0, tz="UTC")) // pd.Timedelta(microseconds=1)
        assert row.id == headline_id(row.publisher, url, row.title, stamp)


def test_a_file_with_its_own_known_at_is_believed(tmp_path: Path, frames, write, read) -> None:
    late = START + 30 * DAY
    frames["funding/rates"]["known_at"] = [late, None, None, None]
    frame = read(ArchiveSource(write(tmp_path, frames, "parquet")), "funding_rates")
    delay = (frame["known_at"] - frame["ts"]).tolist()
    assert delay.count(pd.Timedelta(minutes=1)) == 3
    assert late in set(frame["known_at"])


def test_csv_and_parquet_give_the_same_batches(tmp_path: Path, frames, write, read) -> None:
    parquet = ArchiveSource(write(tmp_path / "parquet", frames, "parquet"))
    csv = ArchiveSource(write(tmp_path / "csv", frames, "csv"))
    for table in FILLED:
        pd.testing.assert_frame_equal(read(parquet, table), read(csv, table))


@pytest.mark.parametrize("table", FILLED)
def test_daily_windows_add_up_to_one_big_window(source: ArchiveSource, read, rows, table) -> None:
    edges = [datetime(2023, 2, 28, 0, 30, tzinfo=UTC) + timedelta(days=at) for at in range(13)]
    whole = read(source, table, None, edges[-1])
    parts = [read(source, table, None, edges[0])]
    parts += [read(source, table, after, until) for after, until in pairwise(edges)]
    assert np.array_equal(rows(*parts), rows(whole))


def test_a_window_is_open_at_its_start_and_closed_at_its_end(source: ArchiveSource, read) -> None:
    first = read(source, "ohlcv")["known_at"].min()
    assert len(read(source, "ohlcv", first - HOUR, first)) == 1
    assert first not in set(read(source, "ohlcv", first, first + HOUR)["known_at"])


def test_a_missing_file_yields_nothing(tmp_path: Path, frames, write, read) -> None:
    source = ArchiveSource(write(tmp_path, {"ohlcv/1h": frames["ohlcv/1h"]}, "parquet"))
    assert len(read(source, "ohlcv")) == 192
    assert all(read(source, table).empty for table in TABLES if table != "ohlcv")


def test_duplicate_rows_are_passed_on(tmp_path: Path, frames, write, read) -> None:
    frames["ohlcv/5m"] = pd.concat([frames["ohlcv/5m"]] * 2)
    frame = read(ArchiveSource(write(tmp_path, frames, "parquet")), "ohlcv")
    assert len(frame[frame["interval"] == "5m"]) == 96


def test_assets_restrict_coins_but_never_bitcoin_or_stablecoins(
    tmp_path: Path, frames, write, read
) -> None:
    frames["ohlcv/1h"] = pd.concat(
        [frames["ohlcv/1h"], frames["ohlcv/1h"].assign(symbol="ADA/USDT")]
    )
    source = ArchiveSource(write(tmp_path, frames, "parquet"), ["ADA"])
    assert source.assets == ("ADA",)
    assert set(read(source, "ohlcv")["symbol"]) == {"BTC/USDT", "ADA/USDT"}
    assert set(read(source, "funding_rates")["asset"]) == {"BTC"}
    assert set(read(source, "implied_volatility")["asset"]) == {"BTC"}
    assert {"USDC", "ALL_STABLES", "BTC"} == set(read(source, "onchain_metrics")["asset"])


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("coins", [None, ["XRP"]])
def test_markets_against_no_dollar_are_left_out_and_counted_and_dollars_of_all_kinds_are_read(
    tmp_path: Path, frames, write, read, caplog: pytest.LogCaptureFixture, form, coins
) -> None:
    bars = frames["ohlcv/1h"]
    bitcoin = bars[bars["symbol"] == "BTC/USDT"]
    dollars = ["BTC/USD1", "BTC/USDE", "BTC/RLUSD", "BTC/PAX", "BTC/USDT:USDT"]
    others = ["BTC/EUR", "BTC/UST", "ETH/BTC", "BTC/USDT:USDT-250328"]
    odd = ["btc/usdt"]  # the gate refuses it
    frames["ohlcv/1h"] = pd.concat(
        [bars, *(bitcoin.assign(symbol=name) for name in [*dollars, *others, *odd])]
    )
    source = ArchiveSource(write(tmp_path, frames, form), coins)
    assert source.assets == (("BTC", "XRP") if coins is None else ("XRP",))
    with caplog.at_level(logging.WARNING):
        found = set(read(source, "ohlcv")["symbol"])
    assert found == {"BTC/USDT", "XRP/USDT", *dollars, *([] if coins else odd)}
    assert caplog.text.count("rows left out: of no coin against the dollar") == 1
    assert f"1h.{form}: {4 * len(bitcoin)} rows left out" in caplog.text


def test_a_coin_without_prices_is_refused(tmp_path: Path, frames, write) -> None:
    folder = write(tmp_path, frames, "parquet")
    with pytest.raises(SourceError, match=r"'DOGE': no prices in archive .*, which has BTC, XRP"):
        ArchiveSource(folder, ["DOGE"])


def test_a_folder_without_prices_is_refused(tmp_path: Path, frames, write) -> None:
    folder = write(tmp_path, {"funding/rates": frames["funding/rates"]}, "csv")
    with pytest.raises(SourceError, match=r"no prices; expected ohlcv/1h\.parquet"):
        ArchiveSource(folder)
    with pytest.raises(SourceError, match="no such folder"):
        ArchiveSource(tmp_path / "nowhere")


@pytest.mark.parametrize("extension", ["parquet", "csv"])
def test_a_missing_column_is_named_with_its_file(
    tmp_path: Path, frames, write, extension: str
) -> None:
    frames["funding/rates"] = frames["funding/rates"].drop(columns=["rate", "ts"])
    folder = write(tmp_path, frames, extension)
    with pytest.raises(SourceError, match=rf"rates\.{extension}: column 'ts', 'rate' is missing"):
        ArchiveSource(folder)


def test_an_extra_column_is_ignored_and_logged(
    tmp_path: Path, frames, write, read, caplog: pytest.LogCaptureFixture
) -> None:
    frames["ohlcv/1h"]["vwap"] = 1.0
    with caplog.at_level(logging.INFO):
        source = ArchiveSource(write(tmp_path, frames, "csv"))
    assert "columns not read: vwap" in caplog.text
    assert len(read(source, "ohlcv"))


def test_the_same_file_in_both_formats_is_refused(tmp_path: Path, frames, write) -> None:
    write(tmp_path, frames, "csv")
    write(tmp_path, {"ohlcv/1h": frames["ohlcv/1h"]}, "parquet")
    with pytest.raises(SourceError, match="the same data twice"):
        ArchiveSource(tmp_path)


def test_a_value_of_the_wrong_type_is_an_error_that_names_the_file(
    tmp_path: Path, frames, write, read
) -> None:
    frames["open_interest/1d"]["close"] = "lots"
    source = ArchiveSource(write(tmp_path, frames, "csv"))
    with pytest.raises(SourceError, match=r"1d\.csv: .*lots"):
        read(source, "open_interest")


def test_a_path_is_a_path_and_never_a_pattern_or_sql(tmp_path: Path, frames, write, read) -> None:
    plain = write(tmp_path / "a", frames, "parquet")
    odd = write(tmp_path / "[a]*' OR 1=1 --", frames, "parquet")
    pd.testing.assert_frame_equal(
        read(ArchiveSource(plain), "ohlcv"), read(ArchiveSource(odd), "ohlcv")
    )


# -- real data ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(archive_folder: Path) -> ArchiveSource:
    return ArchiveSource(archive_folder)


@pytest.mark.archive
def test_real_archive_opens_with_its_ten_coins(real: ArchiveSource) -> None:
    assert real.assets == ("ADA", "BNB", "BTC", "EOS", "ETC", "ETH", "LTC", "TRX", "XLM", "XRP")
    assert (real.first_day(), real.last_day()) == (date(2017, 8, 17), date(2023, 12, 31))


@pytest.mark.archive
@pytest.mark.parametrize("table", FILLED)
def test_real_rows_of_a_month_add_up_day_by_day(real: ArchiveSource, read, rows, table) -> None:
    edges = [datetime(2022, 6, 1, 0, 30, tzinfo=UTC) + timedelta(days=at) for at in range(8)]
    whole = read(real, table, edges[0], edges[-1])
    parts = [read(real, table, after, until) for after, until in pairwise(edges)]
    assert len(whole)
    assert np.array_equal(rows(*parts), rows(whole))


@pytest.mark.archive
def test_real_flows_are_known_only_years_later(real: ArchiveSource, read) -> None:
    frame = read(real, "onchain_metrics")
    flows = frame[frame["metric"].str.match("Flow")]
    assert len(flows)
    assert flows["known_at"].min() == pd.Timestamp("2026-03-25", tz="UTC")
    counts = frame[frame["metric"].eq("TxCnt") & frame["known_at"].notna()]
    assert (counts["known_at"] - counts["ts"] > DAY).all()
    assert frame["value"].notna().all()


@pytest.mark.archive
def test_real_symbols_all_map_to_coins(real: ArchiveSource, read) -> None:
    assert set(read(real, "funding_rates")["asset"]) == {"BTC", "ETH", "BNB"}
    assert read(real, "headlines")["id"].is_unique


@pytest.mark.parametrize("at_once", [1, 50, 100_000])
def test_a_file_that_is_sorted_in_parts_gives_the_same_rows_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=7 * n) for n in range(60)]
    late = [day + timedelta(days=n % 5) for n, day in enumerate(days)]
    table = pa.table(
        {
            "venue": ["v"] * 60,
            "symbol": ["BTC/USDT"] * 60,
            "ts": pa.array(days[::-1], pa.timestamp("us", tz="UTC")),
            **{name: [float(n) for n in range(60)] for name in ("open", "high", "low", "close")},
            "volume": [1.0] * 60,
            "known_at": pa.array(late[::-1], pa.timestamp("us", tz="UTC")),
        }
    )
    (tmp_path / "ohlcv").mkdir()
    pq.write_table(table, tmp_path / "ohlcv" / "1h.parquet")
    whole = pa.concat_tables(ArchiveSource(tmp_path).batches("ohlcv", None, days[-1]))
    monkeypatch.setattr("orchestration.sources.archive.SORTED_AT_ONCE", at_once)
    parts = pa.concat_tables(ArchiveSource(tmp_path).batches("ohlcv", None, days[-1]))
    assert parts.equals(whole)
    known = parts["known_at"].to_pylist()
    assert known == sorted(value for value in late if value <= days[-1])

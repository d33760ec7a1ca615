from __future__ import annotations

import json
import shutil
import socket
import sys
from datetime import UTC, date, datetime

import duckdb
import pytest

from orchestration.headline_coins import coins_in
from orchestration.headline_tone import daily_tone, scorer_of, tone
from orchestration.settings import Settings, SettingsError

SETTINGS = Settings()


@pytest.fixture
def connection():
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        opened.execute("CREATE SCHEMA raw")
        opened.execute(
            "CREATE TABLE raw.headlines (publisher VARCHAR, id VARCHAR, ts TIMESTAMPTZ, title VARCHAR, known_at TIMESTAMPTZ)"
        )
        yield opened


def _publish(connection, title: str | None, known_at: datetime, key: str = "a") -> None:
    connection.execute(
        "INSERT INTO raw.headlines VALUES ('wire', ?, ?, ?, ?)", [key, known_at, title, known_at]
    )


def test_words_of_this_market_carry_a_tone():
    good, bad, flat = tone(
        ["Bitcoin rallies on approval", "Exchange hacked, insolvency feared", "Token listed"]
    )
    assert good > 0.3
    assert bad < -0.5
    assert flat == 0


def test_a_headline_counts_for_the_day_whose_decision_it_precedes(connection):
    decision = SETTINGS.decision_time(date(2024, 3, 1))
    _publish(connection, "market crash", decision, "on the dot")
    _publish(connection, "big rally", decision.replace(minute=31), "a minute late")
    rows = daily_tone(
        connection, SETTINGS, "simulated", date(2024, 3, 1), date(2024, 3, 2)
    ).to_pylist()
    found = {(row["ts"].date(), row["metric"]): row for row in rows}
    assert found[date(2024, 3, 1), "headline_tone"]["value"] < 0
    assert found[date(2024, 3, 2), "headline_tone"]["value"] > 0
    assert found[date(2024, 3, 1), "headline_count"]["value"] == 1
    assert found[date(2024, 3, 1), "headline_tone"]["known_at"] == decision


def test_a_missing_title_and_no_headlines_are_no_fault(connection):
    day = date(2024, 3, 1)
    assert daily_tone(connection, SETTINGS, "simulated", day, day).num_rows == 0
    _publish(connection, None, datetime(2024, 3, 1, 12, tzinfo=UTC))
    assert daily_tone(connection, SETTINGS, "simulated", day, day).num_rows == 0


COINS = ("BTC", "ETH", "BCH", "ETC", "LINK", "NEAR", "SOL", "DOT", "XRP", "ADA", "OP")


@pytest.mark.parametrize(
    ("title", "named"),
    [
        ("Bitcoin and Ether slip", {"BTC", "ETH"}),
        ("BITCOIN HITS RECORD", {"BTC"}),
        ("Bitcoin Cash forks again", {"BCH"}),
        ("Bitcoin  Cash and Bitcoin part ways", {"BCH", "BTC"}),
        ("Ethereum Classic miners move to Ethereum", {"ETC", "ETH"}),
        ("Why $sol and $BTC fell", {"SOL", "BTC"}),
        ("SOL, ADA lead losses", {"SOL", "ADA"}),
        ("Sol shines, a link near the ADA building", {"ADA"}),
        ("Prices near support, see link", set()),
        ("PRICES NEAR SUPPORT, SEE LINK", set()),
        ("PRICES NEAR SUPPORT, SEE $LINK AND BTC", {"LINK", "BTC"}),
        ("LINK outruns NEAR", {"LINK", "NEAR"}),
        ("DOT sues a bridge builder over an OP", set()),
        ("$DOT and Polkadot", {"DOT"}),
        ("btc dips, eth holds", {"BTC", "ETH"}),
        ("WBTC is wrapped, BTCUSDT is a pair, BTC-USD another", {"BTC"}),
        ("Bitcoiners meet", set()),
        ("Bitcoin's week", {"BTC"}),
        ("Ripple wins in court", {"XRP"}),
        ("The ripple effect of a rate cut", set()),
        ("", set()),
    ],
)
def test_a_coin_is_named_by_its_name_or_its_ticker_in_capitals(title, named):
    assert coins_in(title, COINS) == named


def test_only_coins_that_were_asked_for_are_found_even_those_without_a_known_name():
    assert coins_in("Bitcoin, Solana and FOO", ("FOO", "SOL")) == {"FOO", "SOL"}
    assert coins_in("Bitcoin, Solana and FOO", ()) == set()
    assert coins_in("foo, a S and an ID; $id", ("FOO", "S", "ID")) == {"ID"}


def _rows(connection, assets=(), settings=SETTINGS):
    day = date(2024, 3, 1)
    return daily_tone(connection, settings, "live", day, day, assets).to_pylist()


def test_each_coin_has_the_tone_and_the_count_of_its_own_headlines(connection):
    at = datetime(2024, 3, 1, 12, tzinfo=UTC)
    titles = ("Bitcoin crashes", "Bitcoin and Solana rally", "Solana soars", "Rates are unchanged")
    for number, title in enumerate(titles):
        _publish(connection, title, at, str(number))
    scores = dict(zip(titles, tone(titles), strict=True))
    found = {
        (row["asset"], row["metric"]): row["value"]
        for row in _rows(connection, ("SOL", "BTC", "ADA"))
    }
    assert found == {
        ("MARKET", "headline_tone"): pytest.approx(sum(scores.values()) / 4),
        ("MARKET", "headline_count"): 4,
        ("BTC", "headline_tone"): pytest.approx((scores[titles[0]] + scores[titles[1]]) / 2),
        ("BTC", "headline_count"): 2,
        ("SOL", "headline_tone"): pytest.approx((scores[titles[1]] + scores[titles[2]]) / 2),
        ("SOL", "headline_count"): 2,
    }


def test_coins_change_nothing_about_the_market(connection):
    at = datetime(2024, 3, 1, 12, tzinfo=UTC)
    for number, title in enumerate(("Bitcoin crashes", "Ether rallies", "Nothing happens")):
        _publish(connection, title, at, str(number))
    assert _rows(connection, COINS)[:2] == _rows(connection)
    assert {row["provider"] for row in _rows(connection, COINS)} == {"vader"}
    assert all(
        row["known_at"] == SETTINGS.decision_time(date(2024, 3, 1))
        for row in _rows(connection, COINS)
    )


def test_an_edited_title_counts_as_it_was_first_known(connection):
    at = datetime(2024, 3, 1, 12, tzinfo=UTC)
    _publish(connection, "Solana soars", at)
    _publish(connection, "Cardano soars", at.replace(hour=14))
    assert {row["asset"] for row in _rows(connection, ("SOL", "ADA"))} == {"MARKET", "SOL"}


# -- a classifier ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A folder with a small text classifier: the real libraries, random weights."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `tone`")
    import torch

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    folder.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "bitcoin",
        "solana",
        "soars",
        "crashes",
        "again",
    ]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_labels=3, id2label={0: "Positive", 1: "negative", 2: "neutral"}, initializer_range=0.8,
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def _reference(folder, title):
    """Positive less negative probability of one title, alone and without padding."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        shares = model(**tokenizer(title, return_tensors="pt")).logits.softmax(-1)[0].tolist()
    return shares[0] - shares[1]


def test_a_classifier_scores_positive_less_negative_whatever_the_batch(classifier):
    scorer = scorer_of(f"transformers:{classifier}")
    titles = [f"bitcoin soars {'again ' * n}".strip() for n in range(40)] + ["solana crashes"]
    scores = scorer.score(titles)
    assert scores == pytest.approx([_reference(classifier, title) for title in titles], abs=1e-5)
    assert len({round(score, 3) for score in scores}) > 10
    alone = [scorer.score([title])[0] for title in titles]
    assert scores.tolist() == alone
    assert scorer.score(titles[::-1]).tolist() == alone[::-1]
    assert len(scorer.score([])) == 0


def test_a_classifier_of_the_settings_signs_its_rows(connection, classifier):
    settings = Settings(tone_model=f"transformers:{classifier}")
    _publish(connection, "solana soars", datetime(2024, 3, 1, 12, tzinfo=UTC))
    rows = _rows(connection, ("SOL",), settings)
    assert {(row["asset"], row["provider"]) for row in rows} == {
        ("MARKET", "transformers/tiny-bert"),
        ("SOL", "transformers/tiny-bert"),
    }
    assert rows[0]["value"] == pytest.approx(_reference(classifier, "solana soars"), abs=1e-5)


def test_a_classifier_that_is_not_there_is_not_looked_for_in_the_network(
    classifier, tmp_path, monkeypatch
):
    def connect(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(SettingsError, match="neither a folder with a model nor one"):
        scorer_of("transformers:ProsusAI/finbert")
    with pytest.raises(SettingsError, match="neither a folder with a model nor one"):
        scorer_of(f"transformers:{tmp_path / 'nothing'}")


def test_labels_that_say_nothing_are_refused(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "stars")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "1 star", "1": "2 stars", "2": "neutral"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SettingsError, match="1 star"):
        scorer_of(f"transformers:{folder}")


def test_without_the_extra_the_error_says_what_to_install(connection, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    settings = Settings(tone_model="transformers:some/model")
    with pytest.raises(
        SettingsError, match=r"some/model: install the extra: pip install 'volcast\[tone\]'"
    ):
        _rows(connection, (), settings)

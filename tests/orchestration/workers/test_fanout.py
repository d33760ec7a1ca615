"""Fits split among workers: the same models and rows as from one, also after a loss; and nothing goes on after a stop."""

import os
import signal
import threading
import time
from pathlib import Path

import dagster as dg
import pytest

from orchestration.settings import Settings
from orchestration.workers import Shard, WorkerFailed, fan_out
from orchestration.workers.plan import split
from orchestration.workers.shard import Devices
from tests.orchestration.workers import market


def test_split_fits_give_the_same_results_as_one_worker(
    snapshot, alone, home, tmp_path, small_shards
):
    spec = market.spec_of(snapshot, tmp_path / "models", market.CHEAP)
    results, workers, lines = market.run_in_asset(Settings(home=home, workers_at_once=2), spec)
    assert len(workers) > 2
    cut = [fit for shard, _ in workers for fit in shard.spec["fits"] if "coins" in fit]
    assert {fit["model"] for fit in cut} >= {"garch_t"}
    assert "har_pooled" not in {fit["model"] for fit in cut}
    assert market.same(results) == market.same(alone)
    assert not list((tmp_path / "models").rglob("*.part"))
    assert sum("done, attempt 1" in line for line in lines) == len(workers)


ONCE = """
import os, signal, sys
from pathlib import Path
from ml.worker import main

begun = Path(sys.argv[1] + ".begun")
if "-1-of-" in sys.argv[1] and not begun.exists():
    begun.touch()
    import ml.worker
    original = ml.worker._run_fit
    def run_fit(*given):
        original(*given)
        os.kill(os.getpid(), signal.SIGKILL)
    ml.worker._run_fit = run_fit
sys.exit(main(sys.argv[1:]))
"""


def test_a_lost_shard_is_made_by_another_worker(
    snapshot, alone, home, tmp_path, small_shards, monkeypatch
):
    (tmp_path / "dies_once.py").write_text(ONCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("orchestration.workers.fanout.WORKER_MODULE", "dies_once")
    spec = market.spec_of(snapshot, tmp_path / "models", market.CHEAP)
    results, workers, lines = market.run_in_asset(Settings(home=home, workers_at_once=2), spec)
    assert market.same(results) == market.same(alone)
    assert sorted(ended.attempts for _, ended in workers)[-2:] == [1, 2]
    assert sum("lost its worker" in line and "SIGKILL" in line for line in lines) == 1
    assert sum(result["reused"] for result in results) <= 1  # what it had finished


def test_a_shard_that_is_lost_every_time_fails_with_its_reason(
    snapshot, home, tmp_path, small_shards, monkeypatch
):
    (tmp_path / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("orchestration.workers.fanout.WORKER_MODULE", "dies")
    spec = market.spec_of(snapshot, tmp_path / "models", market.CHEAP[:1])
    with pytest.raises(WorkerFailed, match=r"no result for random_walk of 2022-02-06: .*SIGKILL"):
        market.run_in_asset(Settings(home=home, worker_retries=1), spec)


def test_a_fit_that_fails_by_its_own_error_is_not_made_again(
    snapshot, home, tmp_path, small_shards
):
    fits = (market.CHEAP[0], market.fit("ewma", "2030-01-06"), market.CHEAP[1])
    spec = market.spec_of(snapshot, tmp_path / "models", fits)
    settings = Settings(home=home, workers_at_once=2)
    results, workers, _ = market.run_in_asset(settings, spec, None)
    assert [one["status"][:6] for one in results] == ["ok", "failed", "ok"]
    assert {ended.attempts for _, ended in workers} == {1}


def test_chains_networks_and_pooled_models_are_split_as_they_may_be(snapshot, small_shards):
    chain = (
        market.attention("2022-01-30"),
        market.attention("2022-02-06", warm_from={"trained_as_of": "2022-01-30"}),
        market.attention("2022-02-13", warm_from={"trained_as_of": "2022-02-06"}),
    )
    other = market.attention("2022-01-23")
    spec = market.spec_of(snapshot, "models", (chain[0], other, *chain[1:], *market.CHEAP))
    whole = [fit for part, _, _ in split(spec, 1, market.COINS) for fit in part["fits"]]
    assert whole == spec["fits"]
    parts = split({**spec, "device": "auto"}, 2, market.COINS)
    networks = [part["fits"] for part, needs_gpu, _ in parts if needs_gpu]
    assert [[fit["trained_as_of"] for fit in fits] for fits in networks] == [
        ["2022-01-30", "2022-02-06", "2022-02-13"],
        ["2022-01-23"],
    ]
    rest = [fit for part, needs_gpu, _ in parts if not needs_gpu for fit in part["fits"]]
    cut = [fit["coins"] for fit in rest if fit["model"] == "garch_t"]
    assert sorted(cut) == [["ADA", "BTC"]] * 2 + [["ETH", "LTC"]] * 2
    assert [fit for fit in rest if "coins" not in fit and fit["model"] == "garch_t"] == []
    assert sum(fit["model"] == "har_pooled" for fit in rest) == 2


def test_cheap_fits_share_a_start(snapshot):
    spec = market.spec_of(snapshot, "models", market.CHEAP)
    assert len(split(spec, 8, market.COINS)) == 1


@pytest.mark.slow  # six fits of a network
def test_a_chain_of_warm_starts_stays_with_one_worker_in_its_order(
    snapshot, home, tmp_path, small_shards
):
    first = market.attention("2022-02-06")
    second = market.attention("2022-02-13", warm_from={"trained_as_of": "2022-02-06"})
    other = market.attention("2022-01-30")
    config = {**first["config"], "warm_start": True}
    fits = tuple({**one, "config": config} for one in (first, other, second))
    spec = market.spec_of(snapshot, tmp_path / "models", fits)
    results, workers, _ = market.run_in_asset(Settings(home=home, workers_at_once=2), spec)
    days = [[fit["trained_as_of"] for fit in shard.spec["fits"]] for shard, _ in workers]
    assert days == [["2022-02-06", "2022-02-13"], ["2022-01-30"]]
    assert [one["status"] for one in results] == ["ok"] * 3
    whole = market.spec_of(snapshot, tmp_path / "in one", fits)
    expected, _, _ = market.run_in_asset(Settings(home=home), whole)
    assert market.same(results) == market.same(expected)


WAITS = """
import os, sys, time
open(sys.argv[1] + ".pid", "w").write(str(os.getpid()))
time.sleep(600)
"""


def test_no_worker_outlives_a_run_that_is_stopped(home, tmp_path, monkeypatch):
    (tmp_path / "waits.py").write_text(WAITS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    shards = [
        Shard("waits", {}, str(tmp_path / f"{number}.json"), "fit", f"{number}/3")
        for number in (1, 2, 3)
    ]
    pids: list[int] = []

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        pids.extend(int(path.read_text()) for path in tmp_path.glob("*.pid"))
        os.kill(os.getpid(), signal.SIGINT)

    @dg.op
    def training(context: dg.OpExecutionContext) -> None:
        threading.Thread(target=interrupt, daemon=True).start()
        fan_out(context, Settings(home=home, workers_at_once=2), shards)

    @dg.job
    def night() -> None:
        training()

    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        night.execute_in_process()
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert len(list(tmp_path.glob("*.pid"))) == 2  # the third was never begun


def test_each_gpu_is_lent_to_so_many_workers_at_once():
    devices, stop = Devices(("0", "1"), each=2), threading.Event()
    assert [devices.take(stop) for _ in range(4)] == ["0", "1", "0", "1"]
    waiting = threading.Thread(target=lambda: taken.append(devices.take(stop)))
    taken: list[str | None] = []
    waiting.start()
    time.sleep(0.1)
    assert taken == []
    devices.give_back("1")
    waiting.join(5)
    assert taken == ["1"]
    stop.set()
    assert devices.take(stop) is None

"""Environment -> one typed object.

In: environment variables with the prefix ``VOLCAST_``, and the secrets file, where an address with a password in it may stand. Out: a
frozen ``Settings``. Never reads other files, never keeps keys (``secrets`` gives them to who needs one), never falls back silently: a bad
value is an error that quotes it, passwords masked.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ml.models import MODELS
from orchestration.secrets import from_file, mask, mask_address

PREFIX = "VOLCAST_"
PROJECT_ROOT = Path(__file__).resolve().parent.parent
TRANSFORMS_DIR = PROJECT_ROOT / "transforms"

DEFAULT_MODELS = (
    "random_walk", "ewma", "log_har", "harx_cal", "har_pooled", "har_panel", "combination_equal",
    "garch_t", "gjr_t", "egarch_t", "attention",
)  # fmt: skip

AUTO = "auto"
STARTING_CHAMPION = "harx_cal"


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names the variable."""


class Settings(BaseModel):
    """Everything a run depends on. Each field is set by the variable ``VOLCAST_<FIELD>``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Field(
        PROJECT_ROOT / ".volcast",
        description="folder of the warehouse, artefacts, reports and Dagster",
    )
    source: Literal["simulated", "archive", "live"] = Field(
        "simulated", description="where raw data comes from"
    )
    archive: Path | None = Field(
        None, description="folder of Parquet or CSV files, for source=archive"
    )
    assets: tuple[str, ...] | None = Field(
        None, description="coins by ticker, comma separated; empty: every coin of the source"
    )
    live_start: date = Field(
        date(2020, 1, 1), description="first day of history that source=live asks for"
    )
    live_bars: tuple[str, ...] = Field(
        ("5m",), description="bars of source=live, comma separated: 1m, 5m, 1h"
    )
    bulk_files: bool = Field(
        True,
        description="read Binance's history from its public archive files (see their terms), not from its API",
    )
    price_venues: tuple[str, ...] = Field(
        ("binance", "bybit", "okx", "kraken"),
        description="ccxt venues of spot prices; a coin is read from the first that has it",
    )
    funding_venues: tuple[str, ...] = Field(
        ("binanceusdm", "bybit", "okx", "deribit", "hyperliquid"),
        description="ccxt venues of funding rates, all of them read",
    )
    open_interest_venues: tuple[str, ...] = Field(
        ("bybit", "binanceusdm", "okx"),
        description="ccxt venues of open interest, all of them read",
    )
    order_book_venues: tuple[str, ...] = Field(
        ("binance", "okx"), description="ccxt venues of order-book snapshots, all of them read"
    )
    capture_minutes: int = Field(
        15, ge=1, le=60, description="minutes between captures of order books and headlines"
    )
    headline_feeds: dict[str, str] = Field(
        {},
        description="RSS or Atom feeds: publisher=URL, comma separated; empty: five newsrooms",
    )
    tone_model: str = Field(
        "vader",
        description="who scores headlines: vader, or transformers:<model name or folder> (extra `tone`)",
    )
    base_urls: dict[str, str] = Field(
        {},
        description="mirrors: provider=URL, comma separated; *=URL sends every provider to URL/<provider>",
    )
    seed: int = Field(7, ge=0, description="seed of the simulated market and of training")
    decision_offset_minutes: int = Field(
        30,
        ge=0,
        le=12 * 60,
        description="minutes after D+1 00:00 UTC at which the forecast of as_of D is made",
    )
    rv_interval: Literal["finest", "5m", "1h"] = Field(
        "finest",
        description="bars for realised measures: finest complete ones of a day, or one interval",
    )
    train_window_days: int = Field(
        1500, ge=180, description="length of the rolling training window"
    )
    models: tuple[str, ...] = Field(
        DEFAULT_MODELS,
        description="models to train and forecast with, comma separated; `volcast models` lists all",
    )
    champion: str = Field(
        "auto",
        description="model whose forecasts the report and the risk advice lead with: a name, or auto by monthly decision (docs/learning.md)",
    )
    retrain_on_drift: bool = Field(
        True, description="whether drift brings a model's next fit forward; else it is only noted"
    )
    refit_weeks: int = Field(1, ge=1, description="weeks between refits of the HAR family")
    garch_refit_weeks: int = Field(1, ge=1, description="weeks between refits of the GARCH family")
    attention_refit_weeks: int = Field(
        4, ge=1, description="weeks between refits of the networks: attention, LSTM, GRU"
    )
    attention_epochs: int = Field(20, ge=1, description="most epochs of one attention fit")
    attention_config: dict[str, Any] = Field(
        {},
        description="JSON of overrides of the attention model's config, as a study proposes them",
    )
    attention_warm_start: bool = Field(
        False,
        description="start each attention refit from the version before it, with fewer epochs",
    )
    explanation_checks: bool = Field(
        True,
        description="train two more networks with each attention version, to check its explanations; else their audit is weak at best",
    )
    study_trials: int = Field(30, ge=1, description="trials of a hyper-parameter study")
    study_seconds: float = Field(
        3600, gt=0, description="seconds after which a run of the study begins no further trial"
    )
    study_origins: int = Field(
        3, ge=1, description="training days at which a study judges each trial"
    )
    attention_retention_days: int | None = Field(
        None,
        ge=90,
        description="days of attention weights and attributions by token to keep; empty: all. Sums by feature group are kept for ever",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where training runs")
    workers: Literal["subprocess", "ray", "k8s"] = Field(
        "subprocess",
        description="where training runs: in child processes, Ray jobs or Kubernetes pods (docs/workers.md)",
    )
    workers_at_once: int = Field(
        1,
        ge=1,
        description="workers that run side by side; the fits of a run are split among them",
    )
    fits_per_gpu: int = Field(1, ge=1, description="workers that share one GPU at a time")
    worker_retries: int = Field(
        2,
        ge=0,
        description="how often a shard goes to another worker after its own was lost; a fit that failed by its own error is not made again",
    )
    worker_cpus: float = Field(1, gt=0, description="CPUs that a worker asks Ray or Kubernetes for")
    worker_memory: str = Field(
        "4GB",
        pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[MG]i?B$",
        description="memory that a worker asks Ray or Kubernetes for; a pod that takes more is ended",
    )
    ray_address: str = Field(
        "", description="Ray's job server, for workers=ray: http://<head node>:8265"
    )
    ray_resources: dict[str, float] = Field(
        {}, description='JSON of Ray\'s custom resources that a worker asks for: {"trainer": 1}'
    )
    k8s_pod: Path | None = Field(
        None,
        description="YAML of the worker's pod, for workers=k8s: namespace, image, node selector, tolerations, volumes",
    )
    k8s_image: str = Field("", description="image of the worker's pod; empty: that of the YAML")
    k8s_namespace: str = Field(
        "", description="namespace of the worker's pod; empty: that of the YAML"
    )
    artifacts: str = Field(
        "",
        description="where snapshots, specs and models lie: a folder, or s3://bucket/prefix (extra `s3`); empty: artifacts under the home",
    )
    worker_stall_minutes: float = Field(
        15,
        gt=0,
        description="minutes without processor time or a message after which a worker counts as hung and is killed",
    )
    dagster_database: str = Field(
        "",
        description="PostgreSQL database where Dagster keeps runs, events and schedules, as libpq words: dbname=dagster host=db user=dagster (extra `postgres`); the password is the secret VOLCAST_DAGSTER_DATABASE_PASSWORD; empty: SQLite files under the home",
    )
    warehouse: str = Field(
        "",
        description="where the tables lie: empty for warehouse.duckdb under the home, ducklake:sqlite:<file> for a lake of several homes of one machine, "
        "ducklake:postgres:dbname=... host=... for one of several machines (extra `lake`, docs/lake.md)",
    )
    lake_data: str = Field(
        "",
        description="where a lake keeps its Parquet files: a folder that all its homes share, or s3://bucket/prefix; empty: what its catalog says, lake/ under the home for a new one",
    )
    lake_keep_days: int = Field(
        30,
        ge=1,
        description="days that a lake's snapshots are kept for `volcast as-of`; those that a model was trained on or a forecast read stay",
    )
    lock_timeout_seconds: float = Field(
        1800, gt=0, description="how long to wait for another writer before giving up"
    )
    memory_limit: str = Field(
        "4GB",
        pattern=r"^[1-9][0-9]*(\.[0-9]+)? ?[MG]i?B$",
        description="most memory that DuckDB may take, in the warehouse and in dbt; what does not fit goes to disk beside the warehouse",
    )
    target_volatility: float = Field(
        0.20, gt=0, description="annualised volatility that the advised leverage aims at"
    )
    max_leverage: float = Field(3.0, gt=0, description="cap of the advised leverage")
    es_budget: float = Field(
        0.10,
        gt=0,
        description="most of the capital that ES 97.5 % of the leveraged position may take",
    )
    leverage_band: float = Field(
        0.20,
        ge=0,
        lt=1,
        description="no change of the advised leverage while its target lies within this fraction of the last advice",
    )
    leverage_max_change: float = Field(
        0.10,
        gt=0,
        allow_inf_nan=False,
        description="most that the advised leverage rises in a day; it may fall twice as fast, and at once to a hard limit",
    )
    portfolio: Path | None = Field(
        None,
        description="file of weights, .csv (asset,weight) or .json, whose risk every daily run stores (docs/risk.md)",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level of the lines under logs/ (docs/monitoring.md)"
    )
    log_format: Literal["", "text", "json"] = Field(
        "", description="write those lines to standard error too: text or json; empty: not"
    )
    metrics_file: Path | None = Field(
        None,
        description="file that the metrics are written to, .prom, in a folder that node_exporter may read; empty: metrics/volcast.prom under the home",
    )
    alert_email: tuple[str, ...] = Field(
        (), description="addresses that alerts go to, comma separated"
    )
    alert_smtp: str = Field(
        "",
        description="mail server: smtp://user@host:587 (STARTTLS) or smtps://user@host:465; the password is a secret",
    )
    alert_sender: str = Field(
        "", description="address that alerts come from; empty: the first of VOLCAST_ALERT_EMAIL"
    )
    alert_late_minutes: int = Field(
        90,
        ge=1,
        description="minutes after the decision time at which a day without forecasts is an alert",
    )
    alert_stale_hours: float = Field(
        24, gt=0, description="hours without a good read after which a stream is an alert"
    )
    alert_runbook: str = Field(
        "docs/runbook.md", description="address of the runbook that alerts link to"
    )
    simulated_start: date = Field(date(2022, 1, 1), description="first day of the simulated market")
    demo_as_of: date = Field(date(2024, 6, 30), description="last day of `volcast demo`")
    demo_days: int = Field(28, ge=2, description="days of forecasts that `volcast demo` makes")

    @field_validator("headline_feeds", "base_urls", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = {}
        for part in filter(None, map(str.strip, value.split(","))):
            name, _, url = part.partition("=")
            if not name.strip() or not url.strip().startswith(("http://", "https://")):
                raise ValueError(f"{part!r}: expected NAME=http(s)://...")
            pairs[name.strip()] = url.strip()
        return pairs

    @field_validator("attention_config", "ray_resources", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f'expected JSON such as {{"learning_rate": 0.002}}: {error}') from None

    @field_validator("attention_config")
    @classmethod
    def _known_config(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not value:
            return value
        for key, variable in (
            ("window_days", "TRAIN_WINDOW_DAYS"),
            ("warm_start", "ATTENTION_WARM_START"),
        ):
            if key in value:
                raise ValueError(f"{key}: expected in {PREFIX}{variable}")
        from ml.attention.config import AttentionConfig  # imports torch: only where it is set

        AttentionConfig.from_mapping(value)
        return value

    @field_validator("live_bars")
    @classmethod
    def _known_bars(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for interval in value:
            if interval not in ("1m", "5m", "1h"):
                raise ValueError(f"{interval!r}: expected 1m, 5m or 1h")
        if not {"5m", "1h"} & set(value):
            raise ValueError(
                f"{','.join(value)}: realised variance needs 5m or 1h bars beside them"
            )
        return value

    @field_validator("tone_model")
    @classmethod
    def _known_tone(cls, value: str) -> str:
        if value != "vader" and not value.startswith("transformers:"):
            raise ValueError(f"{value!r}: expected vader or transformers:<model name or folder>")
        return value

    @field_validator(
        "assets",
        "models",
        "alert_email",
        "live_bars",
        "price_venues",
        "funding_venues",
        "open_interest_venues",
        "order_book_venues",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = tuple(part.strip() for part in value.split(",") if part.strip())
            return parts or None
        return value

    @field_validator("assets")
    @classmethod
    def _tickers(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for ticker in value or ():
            if not (
                ticker.isascii()
                and ticker.isalnum()
                and ticker.upper() == ticker
                and len(ticker) <= 15
            ):
                raise ValueError(f"{ticker!r}: expected an upper-case ticker such as BTC")
        return value

    @field_validator("models")
    @classmethod
    def _known_models(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in MODELS:
                raise ValueError(f"{name!r}: expected one of {', '.join(MODELS)}")
        if not value:
            raise ValueError("no models: expected at least one")
        return value

    @field_validator("warehouse")
    @classmethod
    def _lake(cls, value: str) -> str:
        if not value:
            return value
        kind, _, catalog = value.removeprefix("ducklake:").partition(":")
        if not (
            value.startswith("ducklake:") and kind in ("sqlite", "postgres") and catalog.strip()
        ):
            raise ValueError(
                "expected ducklake:sqlite:<file>, ducklake:postgres:dbname=... host=... user=..., or nothing for a DuckDB file"
            )
        if mask_address(catalog) != catalog:
            raise ValueError(
                "expected no password in the address: put it into VOLCAST_WAREHOUSE_PASSWORD or PGPASSWORD (docs/lake.md)"
            )
        if kind == "sqlite":
            return f"ducklake:sqlite:{Path(catalog).expanduser().resolve()}"
        return value

    @field_validator("lake_data")
    @classmethod
    def _lake_folder(cls, value: str) -> str:
        if not value or value.startswith("s3://"):
            return value
        if "://" in value:
            raise ValueError(f"{value!r}: expected a folder or s3://bucket/prefix")
        return str(Path(value).expanduser().resolve())

    @field_validator("metrics_file")
    @classmethod
    def _collected(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix != ".prom":
            raise ValueError(
                f"'{value}': expected a name that ends in .prom, no other is collected"
            )
        return value

    @field_validator("artifacts")
    @classmethod
    def _artifact_address(cls, value: str) -> str:
        from orchestration.artifact_store import checked_address

        return checked_address(value)

    @field_validator("home", "archive", "portfolio", "metrics_file", "k8s_pod")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().resolve() if value is not None else None

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.source == "archive" and self.archive is None:
            raise ValueError("VOLCAST_SOURCE=archive needs VOLCAST_ARCHIVE=<folder of the archive>")
        if self.champion != AUTO and self.champion not in self.models:
            raise ValueError(
                f"champion {self.champion!r}: expected auto or one of VOLCAST_MODELS={','.join(self.models)}"
            )
        if self.lake_data and not self.warehouse:
            raise ValueError(
                f"VOLCAST_LAKE_DATA={self.lake_data!r}: only a lake has Parquet files; name one in VOLCAST_WAREHOUSE, or leave this empty"
            )
        return self

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read ``VOLCAST_*``; an empty value means the default. Raises ``SettingsError`` that names the variable."""
        env = {**from_file(), **os.environ} if env is None else env
        values = {
            name: env[PREFIX + name.upper()].strip()
            for name in cls.model_fields
            if env.get(PREFIX + name.upper(), "").strip()
        }
        try:
            return cls(**values)  # type: ignore[arg-type]
        except ValidationError as error:
            lines = []
            for item in error.errors():
                name = PREFIX + str(item["loc"][0]).upper() if item["loc"] else "settings"
                got = f" (got {item['input']!r})" if item["loc"] else ""
                lines.append(mask(f"{name}: {item['msg'].removeprefix('Value error, ')}{got}"))
            raise SettingsError("; ".join(lines)) from None

    # -- places under the home -------------------------------------------------------------------------------------

    def make_home(self) -> Path:
        """The home; where it is not there yet, it is made for its owner alone, who may open it to others."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.home

    @property
    def warehouse_path(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def lock_path(self) -> Path:
        """The file that writers of this home lock, whatever the warehouse is stored in."""
        return self.warehouse_path.with_suffix(".lock")

    def spill_dir(self) -> Path:
        """A new folder for what DuckDB cannot hold in memory, of one connection: two that share one overwrite each other's pages."""
        return self.home / f"warehouse.duckdb.tmp-{uuid.uuid4().hex[:12]}"

    @property
    def published_path(self) -> Path:
        """The read-only copy that SQL users open at any time."""
        return self.home / "published" / "volcast.duckdb"

    @property
    def artifacts_dir(self) -> Path:
        """The folder of artefacts; where they lie in an object store, of local copies and of what workers write down meanwhile."""
        if self.artifacts and not self.artifacts_are_remote:
            return Path(self.artifacts)
        return self.home / "artifacts"

    @property
    def artifacts_are_remote(self) -> bool:
        return "://" in self.artifacts

    @property
    def worker_memory_bytes(self) -> int:
        """``worker_memory`` as Ray and Kubernetes take it."""
        number = self.worker_memory.rstrip("GMiB ")
        unit = self.worker_memory.removeprefix(number).strip()
        base = 1024 if "i" in unit else 1000
        return int(float(number) * base ** {"M": 2, "G": 3}[unit[0]])

    @property
    def reports_dir(self) -> Path:
        return self.home / "reports"

    @property
    def metrics_path(self) -> Path:
        return self.metrics_file or self.home / "metrics" / "volcast.prom"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def dbt_target_dir(self) -> Path:
        return self.home / "dbt"

    # -- the champion ----------------------------------------------------------------------------------------------

    @property
    def pinned_champion(self) -> str | None:
        """The champion by setting; None where decisions choose it."""
        return None if self.champion == AUTO else self.champion

    @property
    def starting_champion(self) -> str:
        """Who leads until the first promotion: HARX-cal, or the first of the models where it is not among them."""
        return STARTING_CHAMPION if STARTING_CHAMPION in self.models else self.models[0]

    # -- time ------------------------------------------------------------------------------------------------------

    def decision_time(self, as_of: date) -> datetime:
        """The instant at which the forecast of ``as_of`` is made: D+1 00:00 UTC plus the offset."""
        midnight = datetime.combine(as_of + timedelta(days=1), time(), tzinfo=UTC)
        return midnight + timedelta(minutes=self.decision_offset_minutes)

    def refit_weeks_of(self, model: str) -> int:
        if MODELS[model].uses_torch:
            return self.attention_refit_weeks
        return self.garch_refit_weeks if MODELS[model].is_garch else self.refit_weeks

    def trained_as_of(self, model: str, as_of: date) -> date:
        """The refit date whose model serves ``as_of``: the newest Sunday of the model's grid strictly before it.

        The grid hangs on the calendar, not on when a run happened, so that a backfill and daily runs use the same models.
        """
        weeks = self.refit_weeks_of(model)
        first_sunday = date(1970, 1, 4)
        steps = ((as_of - timedelta(days=1)) - first_sunday).days // (7 * weeks)
        return first_sunday + timedelta(days=7 * weeks * steps)

"""Coin Metrics API v4 as its documentation tells it: "API Conventions" (pages, errors, rate limits, numbers in quotes, nulls), the reference
of /timeseries/asset-metrics and /catalog-v2/asset-metrics (statuses of reviewable metrics), "How to troubleshoot common errors" (messages of
400 and 403), and the page of the metric AssetEODCompletionTime.

Every answer says that the rate limit is used up (``x-ratelimit-remaining: 0``), which makes the real client ask everything twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.live.server import Reply, Request

DAY = timedelta(days=1)
COMPLETION = "AssetEODCompletionTime"


def stamp(at: datetime) -> str:
    """UTC with nanoseconds."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond * 1000:09d}Z"


@dataclass
class CoinMetricsApi:
    """``days``: asset -> day -> field -> the text of the answer (None: null). What is not there is absent from the answer."""

    days: dict[str, dict[datetime, dict[str, str | None]]] = field(default_factory=dict)
    paid: set[str] = field(default_factory=set)
    """Metrics in the catalog that the tier refuses all the same."""
    hidden: set[str] = field(default_factory=set)
    """Metrics of ``days`` that are not in the catalog."""
    repeat_rows: int = 0
    """Rows of the page before that a page begins with."""
    backwards: bool = False
    """Rows of a page come newest first."""
    rename: dict[str, str] = field(default_factory=dict)
    """Fields of an answer that have got another name."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of a row that are new."""
    empty_page: bool = False
    """The first page is empty and names a further one."""
    circle: bool = False
    """A page names itself as the next."""
    refuse: Reply | None = None

    def offer(self, asset: str, day: datetime, **values: str | None) -> None:
        self.days.setdefault(asset, {}).setdefault(day, {}).update(values)

    def complete(self, asset: str, day: datetime, at: datetime) -> None:
        self.offer(asset, day, **{COMPLETION: f"{at.timestamp():.0f}"})

    def __call__(self, request: Request) -> Reply:
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "6"}
        if self.refuse is not None:
            return self.refuse
        if request.path == "/v4/catalog-v2/asset-metrics":
            reply = self._catalog(request)
        elif request.path == "/v4/timeseries/asset-metrics":
            reply = self._timeseries(request)
        else:
            reply = _error(404, "not_found", "Not found")
        return Reply(reply.body, reply.status, headers)

    def _catalog(self, request: Request) -> Reply:
        asset = request.query["assets"]
        if asset not in self.days:
            return _error(
                400, "bad_parameter", f"Bad parameter 'assets'. Value '{asset}' is not supported."
            )
        assert request.query["format"] == "json"
        times: dict[str, list[datetime]] = {}
        for day, values in self.days[asset].items():
            for name in values:
                if "-status" not in name and name not in self.hidden:
                    times.setdefault(name, []).append(day)
        metrics = [
            {
                "metric": name,
                "frequencies": [
                    {"frequency": "1b", "min_height": "0", "max_height": "1", "community": False},
                    {
                        "frequency": "1d",
                        "min_time": stamp(min(days)),
                        "max_time": stamp(max(days)),
                        "community": True,
                    },
                ],
            }
            for name, days in sorted(times.items())
        ]
        return Reply({"data": [{"asset": asset, "metrics": metrics}]})

    def _timeseries(self, request: Request) -> Reply:
        query = request.query
        asset, metrics = query["assets"], query["metrics"].split(",")
        assert query["frequency"] == "1d"
        if asset not in self.days:
            return _error(
                400, "bad_parameter", f"Bad parameter 'assets'. Value '{asset}' is not supported."
            )
        for metric in metrics:
            if metric in self.paid:
                return _error(
                    403,
                    "forbidden",
                    f"Requested metric '{metric}' with frequency '1d' for asset '{asset}' is not available with supplied credentials.",
                )
        since = datetime.fromisoformat(query.get("start_time", "1970-01-01")).replace(tzinfo=UTC)
        days = sorted(day for day in self.days[asset] if day >= since)
        if query["paging_from"] == "end":
            days = days[-int(query.get("limit_per_asset", 100)) :]
        size = int(query.get("page_size", 100))
        first = int(query.get("next_page_token", "0-0").split("-")[1])
        if self.empty_page and "next_page_token" not in query:
            return Reply({"data": [], "next_page_token": "p-0"})
        page = days[max(0, first - self.repeat_rows) if first else 0 : first + size]
        rows = [self._row(asset, day, metrics) for day in page]
        body: dict[str, Any] = {"data": rows[::-1] if self.backwards else rows}
        if first + size < len(days) or self.circle:
            body["next_page_token"] = query.get("next_page_token") if self.circle else None
            body["next_page_token"] = body["next_page_token"] or f"p-{first + size}"
            body["next_page_url"] = "https://community-api.coinmetrics.io/v4/timeseries/..."
        return Reply({self.rename.get(name, name): value for name, value in body.items()})

    def _row(self, asset: str, day: datetime, metrics: list[str]) -> dict[str, Any]:
        values = self.days[asset][day]
        row: dict[str, Any] = {"asset": asset, "time": stamp(day)}
        for metric in metrics:
            for name in (metric, f"{metric}-status", f"{metric}-status-time"):
                if name in values:
                    row[name] = values[name]
        return {self.rename.get(name, name): value for name, value in row.items()} | self.extra


def _error(status: int, kind: str, message: str) -> Reply:
    return Reply({"error": {"type": kind, "message": message}}, status)

"""GDELT's DOC 2.0 API as "GDELT DOC 2.0 API Debuts!" (blog.gdeltproject.org) and the notes of its users tell it: of a week or less the
timeline has hours, of more it has days; a refusal is a sentence in plain text with status 200; a query without a match is answered ``{}``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.live.server import Reply, Request

DAY = timedelta(days=1)
FIRST_DAY = datetime(2017, 1, 1, tzinfo=UTC)
TOO_OFTEN = b"Please limit requests to one every 5 seconds or contact someone@example.org for larger queries.\n"


@dataclass
class GdeltApi:
    """``days``: query -> day -> matching articles, all articles, tone."""

    days: dict[str, dict[datetime, tuple[int, int, float]]] = field(default_factory=dict)
    too_often: int = 0
    """So many of the next requests are refused for coming too often."""
    rename: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    shuffle: bool = False

    def __call__(self, request: Request) -> Reply:
        query = request.query
        if request.path != "/api/v2/doc/doc" or query["format"] != "json":
            return Reply(b"not found", 404)
        if self.too_often:
            self.too_often -= 1
            return _text(TOO_OFTEN)
        begin, end = (
            datetime.strptime(query[name], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            for name in ("startdatetime", "enddatetime")
        )
        if begin < FIRST_DAY:
            return _text(b"Invalid query start date.")
        if " OR " in query["query"] and not query["query"].startswith("("):
            return _text(b"Queries containing OR'd terms must be surrounded by ().")
        found = {
            day: values
            for day, values in sorted(self.days.get(query["query"], {}).items())
            if begin <= day <= end
        }
        if not found:
            return Reply({})
        by_day = end - begin > 7 * DAY
        points = []
        for day, (count, norm, tone) in found.items():
            for hour in range(1 if by_day else 24):
                point: dict[str, Any] = {"date": f"{day + timedelta(hours=hour):%Y%m%dT%H%M%SZ}"}
                if query["mode"] == "timelinevolraw":
                    point |= {"value": count, "norm": norm}
                else:
                    point |= {"value": tone}
                points.append(
                    {self.rename.get(name, name): value for name, value in point.items()}
                    | self.extra
                )
        if self.shuffle:
            points = points[1::2] + points[0::2]
        series = "Article Count" if query["mode"] == "timelinevolraw" else "Average Tone"
        body = {
            "query_details": {
                "title": query["query"],
                "date_resolution": "day" if by_day else "hour",
            },
            "timeline": [{"series": self.rename.get(series, series), "data": points}],
        }
        return Reply({self.rename.get(name, name): value for name, value in body.items()})


def _text(body: bytes) -> Reply:
    return Reply(body, 200, {"Content-Type": "text/html; charset=utf-8"})

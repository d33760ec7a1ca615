"""Cards as files: which versions have one, their text, and writing what changed.

In: the published copy. Out: Markdown and self-contained HTML under ``model_cards/<model>/<version>``, each replaced whole and only when it differs.
"""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from orchestration.markdown import in_markdown
from orchestration.model_cards import identity, outcomes, soundness
from orchestration.model_cards.limits import limits
from orchestration.model_cards.sections import Facts, Section

SETTLED_DAYS = 31
"""Days after its last forecast from which a version's outcomes (22 days) are all known: its card is then left as it is."""
FOLDER = "model_cards"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def write_cards(connection: duckdb.DuckDBPyConnection, folder: Path) -> tuple[list[Path], int]:
    """Cards of every version with forecasts: (HTML files of those that serve, number of files written).

    A version whose last forecast is older than `SETTLED_DAYS` keeps the card that it has. Raises ValueError for a name that
    cannot be a file's.
    """
    newest = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    if newest is None or newest[0] is None:
        return [], 0
    serving, written = [], 0
    seen: dict[Any, Any] = {}
    for model, version, last in connection.execute(
        "SELECT model, model_version, max(as_of) FROM forecasts.volatility SEMI JOIN models.registry USING (model, model_version) "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall():
        base = _place(folder, model, version)
        if last == newest[0]:
            serving.append(base.with_name(f"{version}.html"))
        both = [base.with_name(f"{version}.{kind}") for kind in ("md", "html")]
        if newest[0] - last > timedelta(days=SETTLED_DAYS) and all(path.exists() for path in both):
            continue
        facts = Facts(connection, model, version, newest[0], seen)
        parts = sections(facts)
        for path, text in zip(both, (markdown(facts, parts), html(facts, parts)), strict=True):
            written += _replace(path, text)
    return serving, written


def card_text(connection: duckdb.DuckDBPyConnection, model: str, version: str | None = None) -> str:
    """The Markdown card of a version; of the newest that has forecasts by default. Raises LookupError that names what there is."""
    found = connection.execute(
        "SELECT model_version FROM forecasts.volatility AS f LEFT JOIN models.registry AS m USING (model, model_version) WHERE model = ? "
        "GROUP BY 1 ORDER BY max(f.as_of) DESC, max(m.created_at) DESC NULLS LAST, 1 DESC", [model]
    ).fetchall()  # fmt: skip
    versions = [str(row[0]) for row in found]
    if not versions:
        known = connection.execute("SELECT DISTINCT model FROM forecasts.volatility ORDER BY 1").fetchall()  # fmt: skip
        names = ", ".join(str(row[0]) for row in known)
        raise LookupError(f"model {model!r} has no forecasts: expected one of {names or 'none'}")
    if version is not None and version not in versions:
        raise LookupError(f"version {version!r} of {model} has no forecasts: expected one of {', '.join(versions)}")  # fmt: skip
    newest = connection.execute("SELECT max(as_of) FROM forecasts.volatility").fetchone()
    facts = Facts(connection, model, version or versions[0], newest[0] if newest else date.max)
    return markdown(facts, sections(facts))


def sections(facts: Facts) -> list[Section]:
    """The parts of a card, in a reviewer's order."""
    entry = identity.registry_row(facts)
    return [
        identity.purpose(facts, entry),
        limits(facts, entry),
        identity.model(facts, entry),
        identity.data(facts, entry),
        soundness.conceptual(facts),
        outcomes.losses(facts),
        outcomes.calibration(facts),
        outcomes.tail_risk(facts),
        soundness.audit(facts),
        soundness.spurious(facts),
        soundness.drift(facts),
        soundness.decisions(facts),
        soundness.approvals(facts),
        identity.hashes(facts, entry),
    ]


def markdown(facts: Facts, parts: list[Section]) -> str:
    return _environment(False).get_template("card.md.j2").render(**_head(facts), sections=parts)


def html(facts: Facts, parts: list[Section]) -> str:
    css = Markup(files("orchestration.model_cards").joinpath("page", "card.css").read_text("utf-8"))  # noqa: S704  # our own file
    page = _environment(True).get_template("card.html.j2")
    return page.render(**_head(facts), sections=parts, css=css)


def _head(facts: Facts) -> dict[str, object]:
    source = facts.rows("SELECT source FROM models.registry WHERE model = $model AND model_version = $version")  # fmt: skip
    return {
        "model": facts.model,
        "version": facts.version,
        "as_of": facts.as_of,
        "simulated": bool(source) and source[0]["source"] == "simulated",
    }


def _place(folder: Path, model: str, version: str) -> Path:
    for name in (model, version):
        if not _SAFE.fullmatch(name):
            raise ValueError(f"{name!r}: expected letters, digits, '.', '_' and '-' in the name of a model or version")  # fmt: skip
    return folder / model / version


def _replace(path: Path, text: str) -> bool:
    """Write beside and rename over, unless the file says the same already."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
    return True


_CHIPS = {
    **dict.fromkeys(("clear", "valid", "ok", "steady", "green", "champion", "open", "promote", "keep"), "good"),
    **dict.fromkeys(("weak", "not judged", "yellow", "drift", "refuse", "retrain", "warned"), "warn"),
    **dict.fromkeys(("flagged", "invalid", "red", "closed", "failed"), "bad"),
}  # fmt: skip


@cache
def _environment(autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestration.model_cards", "page"),
        autoescape=autoescape,  # noqa: S701  # Markdown has an escape of its own, in every place
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = in_markdown
    environment.filters["chip"] = lambda text: _CHIPS.get(text, "")
    return environment

"""The compose file as `docker compose` would read it, without a container engine.

In: deploy/compose/docker-compose.yml and a mapping of variables. Out: its services with every variable put in. Raises ``LookupError`` with the file's own message for
a variable that it demands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestration.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "deploy" / "compose"
FILE = FOLDER / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


def raw() -> dict[str, Any]:
    """The file with its anchors resolved and its variables left as they stand."""
    found = yaml.safe_load(FILE.read_text())
    assert isinstance(found, dict)
    return found


def loaded(variables: Mapping[str, str]) -> dict[str, Any]:
    """The file with ``variables`` put in, as the shell and .env would give them."""
    found = _filled(raw(), variables)
    assert isinstance(found, dict)
    return found


def env_lines(path: Path) -> dict[str, str]:
    """NAME=VALUE lines of a file, as compose reads an env_file."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value.strip("'\"") for name, _, value in pairs}


def _filled(part: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(part, str):
        return VARIABLE.sub(lambda found: _value(found, variables), part)
    if isinstance(part, list):
        return [_filled(item, variables) for item in part]
    if isinstance(part, dict):
        return {name: _filled(item, variables) for name, item in part.items()}
    return part


def _value(found: re.Match[str], variables: Mapping[str, str]) -> str:
    name, rule, text = found.group(1), found.group(2) or "", found.group(3) or ""
    value = variables.get(name)
    if value is not None and (value or not rule.startswith(":")):
        return value
    if rule.endswith("?"):
        raise LookupError(f"{name}: {text}")
    return text

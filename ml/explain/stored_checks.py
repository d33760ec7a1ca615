"""Checks of a version's explanations as JSON beside its artefact.

In: checks and the artefact that they are of (its folder URI, local or any fsspec URI, and its sha256). Out: the same again, or nothing.
Never: checks of another artefact or of another way to check, or a half-written file: the file names the artefact's hash and carries its own.
The artefact's folder is not touched; the file stands beside it, <version>.checks.json.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict

import fsspec

from ml.explain.checks import Check
from ml.snapshot import write_atomically

log = logging.getLogger(__name__)
FORMAT = 1
"""Goes up when checks are made another way: those of before are then made again."""
SUFFIX = ".checks.json"


def save_checks(uri: str, artifact_hash: str, checks: Sequence[Check]) -> None:
    """Replace the checks of the artefact under `uri`; the same checks give the same bytes."""
    document = {
        "format": FORMAT,
        "artifact_hash": artifact_hash,
        "checks": [asdict(check) for check in checks],
    }
    text = json.dumps({**document, "sha256": _digest(document)}, indent=1, sort_keys=True)
    write_atomically(_place(uri), text.encode())


def load_checks(uri: str, artifact_hash: str) -> list[Check] | None:
    """The checks of that artefact; None where there are none, with a line in the log where the file is damaged."""
    fs, path = fsspec.core.url_to_fs(_place(uri))
    try:
        content = fs.cat_file(path)
    except FileNotFoundError:
        return None
    try:
        document = json.loads(content)
        found = document.pop("sha256")
        if found != _digest(document):
            raise ValueError("its digest does not match")
        if (document["format"], document["artifact_hash"]) != (FORMAT, artifact_hash):
            return None
        return [Check(**check) for check in document["checks"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("checks %s are damaged (%s): they count as not made", _place(uri), error)
        return None


def _place(uri: str) -> str:
    return f"{uri.rstrip('/')}{SUFFIX}"


def _digest(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

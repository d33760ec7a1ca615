"""Where artefacts lie: a folder, by default under the home, or an object store.

In: settings, and the names that the registry and workers use. Out: addresses for `ml`, which reads and writes any fsspec URI, and for who reads often a
local copy, verified. Never: an artefact outside of the store, or a local copy whose bytes are not what its hash says.
"""

from __future__ import annotations

import os
import shutil
import uuid
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from ml import artifacts
from ml.model import ModelState
from orchestration.settings import Settings

EXTRAS = {"s3": ("s3fs", "s3")}
"""Package that an address needs, by its scheme, and the extra that brings it."""
CACHE = "cache"


def checked_address(address: str) -> str:
    """The address in one form; ValueError for one that cannot be used, with what to install where a package is missing."""
    if "://" not in address:
        return str(Path(address).expanduser().resolve()) if address else ""
    scheme, _, rest = address.partition("://")
    if scheme not in EXTRAS or not rest.strip("/"):
        raise ValueError(f"'{address}': expected a folder or s3://bucket/prefix")
    if "@" in rest.partition("/")[0] or "?" in rest:
        raise ValueError(
            f"{scheme}://***: expected no key in the address; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment give it"
        )
    package, extra = EXTRAS[scheme]
    if find_spec(package) is None:
        raise ValueError(
            f"'{address}' needs the extra `{extra}`: uv pip install -c requirements.lock -e .[{extra}]"
        )
    return address.rstrip("/")


def address_of(settings: Settings, *parts: str) -> str:
    """The address of something in the store, as `ml` and workers read it."""
    root = settings.artifacts if settings.artifacts_are_remote else str(settings.artifacts_dir)
    return "/".join([root, *parts])


def artifact_place(settings: Settings, uri: str) -> str:
    """The folder of the artefact that the registry or a worker calls ``uri``. Raises ``ArtifactError`` for one outside of the store."""
    if settings.artifacts_are_remote:
        inside = uri.removeprefix(f"{settings.artifacts}/")
        path = PurePosixPath(inside)
        if "://" in inside or path.is_absolute() or ".." in path.parts or not path.parts:
            raise artifacts.ArtifactError(
                f"artefact {uri!r}: expected a folder inside {settings.artifacts}"
            )
        return f"{settings.artifacts}/{path}"
    store = settings.artifacts_dir.resolve()
    place = (store / uri).resolve()
    if place == store or not place.is_relative_to(store):
        raise artifacts.ArtifactError(f"artefact {uri!r}: expected a folder inside {store}")
    return str(place)


def name_in_store(settings: Settings, uri: str) -> str:
    """What the registry calls the artefact at ``uri``: its place in the store, so that a home or a bucket may move."""
    place = artifact_place(settings, uri)
    if settings.artifacts_are_remote:
        return place.removeprefix(f"{settings.artifacts}/")
    return str(Path(place).relative_to(settings.artifacts_dir.resolve()))


def load_state(settings: Settings, uri: str, artifact_hash: str) -> ModelState:
    """A stored model, its hash verified. Raises ``ArtifactError`` when it is not what the registry says.

    Of an object store a copy is kept under the home, named by the hash, and read from then on.
    """
    place = artifact_place(settings, uri)
    if not settings.artifacts_are_remote:
        return artifacts.load(place, artifact_hash)
    copy = settings.artifacts_dir / CACHE / artifact_hash
    if copy.is_dir():
        try:
            return artifacts.load(str(copy), artifact_hash)
        except artifacts.ArtifactError:
            shutil.rmtree(copy, ignore_errors=True)  # damaged: the store has it
    state = artifacts.load(place, artifact_hash)
    half = copy.with_name(f"{artifact_hash}.{uuid.uuid4().hex}.part")
    try:
        artifacts.save(str(half), state)
        os.rename(half, copy)
    except OSError:  # another process was first, or there is no room: the state is here
        shutil.rmtree(half, ignore_errors=True)
    return state

"""Model artefacts: a folder with model.safetensors and model.json, named by the hash of both.

In: a `ModelState` and a folder URI (local path or any fsspec URI). Out: the sha256 that `load` must be given.
Never: pickle, a half-written artefact (a local folder appears by one rename; elsewhere model.json comes last), or a
number used before its bytes were verified.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from ml.model import ModelState

TENSORS, DOCUMENT = "model.safetensors", "model.json"
_ABANDONED_SECONDS = 6 * 3600


class ArtifactError(ValueError):
    """An artefact that is missing, unfinished or not what its hash says."""


def save(uri: str, state: ModelState) -> str:
    """Store a state under `uri` and return its sha256; saving the same state again changes nothing.

    Raises ArtifactError when `uri` already holds another state: artefacts are immutable.
    """
    tensors = save_tensors({name: _plain(state.tensors[name]) for name in sorted(state.tensors)})
    document = {"meta": state.meta, "tensors_sha256": hashlib.sha256(tensors).hexdigest()}
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode()
    sha256 = hashlib.sha256(text).hexdigest()
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.exists(f"{path}/{DOCUMENT}"):
        return _same_or_error(uri, sha256)
    if "file" in fs.protocol:
        _write_folder(path, tensors, text)
    else:
        fs.pipe_file(f"{path}/{TENSORS}", tensors)
        fs.pipe_file(f"{path}/{DOCUMENT}", text)
    return _same_or_error(uri, sha256)


def load(uri: str, expected_sha256: str) -> ModelState:
    """The state under `uri`; ArtifactError unless its bytes have this hash."""
    text, tensors = _read(uri, DOCUMENT), _read(uri, TENSORS)
    _verify(f"{uri}/{DOCUMENT}", text, expected_sha256)
    document: dict[str, Any] = json.loads(text)
    _verify(f"{uri}/{TENSORS}", tensors, document["tensors_sha256"])
    return ModelState(tensors=load_tensors(tensors), meta=document["meta"])


def stored_hash(uri: str) -> str | None:
    """The sha256 of the artefact under `uri`, None when there is no finished one."""
    fs, path = fsspec.core.url_to_fs(uri)
    if not fs.exists(f"{path}/{DOCUMENT}"):
        return None
    return hashlib.sha256(fs.cat_file(f"{path}/{DOCUMENT}")).hexdigest()


def remove(uri: str) -> None:
    """Delete an artefact, model.json first, so that what is left of an interrupted removal is no artefact."""
    fs, path = fsspec.core.url_to_fs(uri)
    if fs.exists(f"{path}/{DOCUMENT}"):
        fs.rm_file(f"{path}/{DOCUMENT}")
    if fs.exists(path):
        fs.rm(path, recursive=True)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array)


def _read(uri: str, name: str) -> bytes:
    fs, path = fsspec.core.url_to_fs(uri)
    try:
        return bytes(fs.cat_file(f"{path}/{name}"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{uri}: no {name}; the artefact is missing or unfinished") from error


def _verify(name: str, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ArtifactError(
            f"{name} has sha256 {found}, expected {expected}: it was changed, train the model again"
        )


def _same_or_error(uri: str, sha256: str) -> str:
    found = stored_hash(uri)
    if found != sha256:
        raise ArtifactError(
            f"{uri} holds another model (sha256 {found}, not {sha256}): artefacts are immutable"
        )
    load(uri, sha256)
    return sha256


def _write_folder(path: str, tensors: bytes, text: bytes) -> None:
    parent, name = os.path.split(path.rstrip("/"))
    os.makedirs(parent or ".", exist_ok=True)
    _remove_abandoned(parent or ".", name)
    temporary = os.path.join(parent, f".{name}.{uuid.uuid4().hex}.part")
    os.mkdir(temporary)
    try:
        for file_name, content in ((TENSORS, tensors), (DOCUMENT, text)):
            with open(os.path.join(temporary, file_name), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if os.path.isdir(path) and not os.path.exists(os.path.join(path, DOCUMENT)):
            shutil.rmtree(path)  # what an interrupted `remove` left
        try:
            os.rename(temporary, path)
        except OSError:
            if not os.path.exists(os.path.join(path, DOCUMENT)):  # not another writer who was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(parent: str, name: str) -> None:
    """Temporary folders of this artefact that a killed worker left hours ago."""
    for entry in os.scandir(parent):
        ours = entry.name.startswith(f".{name}.") and entry.name.endswith(".part")
        if ours and time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(entry.path, ignore_errors=True)

"""Checkpoints of a fit: what a killed worker needs to go on where it was.

In: tensors and JSON facts, under a folder URI (local path or any fsspec URI) and an identity. Out: the same again, or nothing.
Never: pickle, a half-written file, or another fit's state: a file is used only when its digest is right and its identity (data, settings,
seed, code, device) is this fit's; any other is left aside with a line in the log.

One safetensors file per network of an ensemble; its JSON is in the file's own header, so tensors and facts appear together.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ml.snapshot import write_atomically

log = logging.getLogger("ml.attention")

FORMAT = 1
SUFFIX = ".checkpoint"
ABANDONED_SECONDS = 7 * 24 * 3600
_KEY = "checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved."""

    tensors: dict[str, Tensor]  # on the CPU
    facts: dict[str, Any]


@dataclass(frozen=True)
class Slot:
    """The place of one network's newest checkpoint."""

    uri: str
    identity: str

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace what is there by one rename. A checkpoint that cannot be written is a line in the log, not a failed fit."""
        held = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
        document = {"format": FORMAT, "identity": self.identity, "facts": dict(facts)}
        text = json.dumps(document, sort_keys=True)
        header = {_KEY: text, "sha256": _digest(text, held)}
        try:
            write_atomically(self.uri, save_tensors(held, metadata=header))
        except OSError as error:
            log.warning("checkpoint %s was not written: %s", self.uri, error)

    def load(self) -> Checkpoint | None:
        """The checkpoint, None where there is none that this fit may use."""
        fs, path = fsspec.core.url_to_fs(self.uri)
        try:
            content = bytes(fs.cat_file(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("checkpoint %s cannot be read (%s): training begins anew", self.uri, error)
            return None
        try:
            header = _header(content)
            text = header[_KEY]
            tensors: dict[str, Tensor] = load_tensors(content)
            if header["sha256"] != _digest(text, tensors):
                raise ValueError("its digest does not match")
            document = json.loads(text)
        except (ValueError, KeyError, struct.error, SafetensorError) as error:
            log.warning("checkpoint %s is damaged (%s): training begins anew", self.uri, error)
            return None
        if document.get("format") != FORMAT or document.get("identity") != self.identity:
            log.warning(
                "checkpoint %s is of other data, settings or code: training begins anew", self.uri
            )
            return None
        return Checkpoint(tensors, document["facts"])


@dataclass(frozen=True)
class Checkpoints:
    """The folder of one fit's checkpoints; `identity` names everything that the fit depends on."""

    uri: str
    identity: str

    def slot(self, name: str) -> Slot:
        return Slot(f"{self.uri.rstrip('/')}/{name}.safetensors", self.identity)

    def clear(self) -> None:
        """Remove the folder: the artefact is finished. Folders beside it that nobody wrote to for a week go too."""
        fs, path = fsspec.core.url_to_fs(self.uri)
        if fs.exists(path):
            fs.rm(path, recursive=True)
        if "file" not in fs.protocol:
            return  # an object store has lifecycle rules for that
        for folder in fs.glob(f"{path.rsplit('/', 1)[0]}/*{SUFFIX}"):
            newest = max((fs.info(file)["mtime"] for file in fs.find(folder)), default=0.0)
            if time.time() - newest > ABANDONED_SECONDS:
                fs.rm(folder, recursive=True)


def _header(content: bytes) -> dict[str, str]:
    """The text entries of a safetensors file: 8 bytes of length, then JSON with them under '__metadata__'."""
    (length,) = struct.unpack("<Q", content[:8])
    found: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return found


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"|{name}:{tensor.dtype}:{tuple(tensor.shape)}|".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()

"""Write files whole or not at all, and say clearly what is wrong with the ones we read.

Every stage of the book leaves its result through this module: the content goes to a temporary
name in the same folder, is flushed to disk, and is then renamed. A kill or a full disk leaves the
old file as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors


class BadFile(ValueError):
    """A file that cannot be used; the message names the file, the fault and the fix."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is then unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        # mkstemp makes files for the owner alone; a committed file is readable by all.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {path}: {error.strerror or error}. The previous file, if there was "
            "one, is unchanged; free some space or check the folder's permissions and run again",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal contents give equal files."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        BadFile: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise BadFile(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: not JSON ({error}); delete the file and make it again") from error


def read_entries(path: str | Path) -> list[Any]:
    """Read a YAML file that holds a list.

    Raises:
        BadFile: it is missing, is no YAML, or holds no list.
    """
    try:
        entries = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise BadFile(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise BadFile(f"{path}: not YAML ({error})") from error
    if not isinstance(entries, list):
        raise BadFile(f"{path}: holds no list of entries")
    return entries


def check_fields(where: str, entry: Any, kind: type) -> None:
    """Compare the names in an entry of a file with the fields of the dataclass it becomes.

    Raises:
        BadFile: no mapping, an unknown field, or one without a default is lacking; begins with
            `where`.
    """
    if not isinstance(entry, dict):
        raise BadFile(f"{where}: is {entry!r}; expected fields with values")
    required = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    if unknown := sorted(set(entry) - set(required)):
        raise BadFile(f"{where}: unknown {unknown}; known: {list(required)}")
    if missing := [name for name, needed in required.items() if needed and name not in entry]:
        raise BadFile(f"{where}: lacks {missing}")


def write_arrays(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write named arrays as safetensors; `metadata` values are stored as JSON text."""
    text = {key: json.dumps(value, sort_keys=True) for key, value in (metadata or {}).items()}
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    write_bytes(path, _with_sorted_metadata(to_safetensors(contiguous, metadata=text)))


def _with_sorted_metadata(content: bytes) -> bytes:
    """The library writes metadata in an order that changes from call to call; hashes would, too.

    A file begins with the length of its JSON header in 8 bytes; tensors follow the header, at
    offsets that count from its end (https://github.com/huggingface/safetensors#format).
    """
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    if metadata := header.pop("__metadata__", None):
        header = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and metadata of a safetensors file.

    Metadata that is not JSON (files from elsewhere) comes back as the plain string.

    Raises:
        BadFile: the file is missing, cut short or not safetensors.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"{path}: no such file")
    try:
        with safe_open(path, "numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise BadFile(
            f"{path}: not a whole safetensors file ({error}); it was cut short or altered: "
            "restore it (git checkout, or download it again)"
        ) from error
    return arrays, {key: _maybe_json(value) for key, value in metadata.items()}


def _maybe_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def array_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Hex SHA-256 of named arrays: names, dtypes, shapes and values, whatever file holds them."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

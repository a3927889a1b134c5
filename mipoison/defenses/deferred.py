"""A saved defense that can be sent to workers: each process loads it on its first use."""

from __future__ import annotations

import os
import threading
import uuid
from collections import OrderedDict
from typing import Any, Final

import torch

from mipoison.defenses import compiled, storage
from mipoison.defenses.base import Defense
from mipoison.defenses.loading import kind_in
from mipoison.defenses.saving import needs_key, restored
from mipoison.key_text import FilePath, as_name, as_path
from mipoison.keys import Key
from mipoison.ops.answers import Rows
from mipoison.ops.identity import Ids

_VARIABLE: Final = "MIPOISON_KEY"
# Defenses that a process keeps for copies which come later, as with each task of a worker.
_KEPT: Final = 16
_loaded: Final[OrderedDict[str, Defense]] = OrderedDict()
# Held while a defense is loaded, so that threads load it once.
_LOADING: Final = threading.Lock()
# A child that is forked while the lock is held would wait for it forever.
os.register_at_fork(after_in_child=_LOADING._at_fork_reinit)  # type: ignore[attr-defined]


class Deferred:
    """A saved defense to be sent to workers: pickled it is a path, and the name of where the key is.

    It is called like the defense. Each process loads it on the first call, once for all copies of one Deferred and all
    threads, and keeps it until it ends. Whoever makes another Deferred gets what the file and the key are by then.

    Args:
        path: of the file that `save` wrote. A relative one is looked up from the working folder of each process.
        key_env: environment variable that holds the key of a keyed defense as text in each process, see
            `Key.from_env`.
        key_file: a file that holds it, in place of the variable; see `Key.from_file`.
        device: where the tensors of the defense go; it has to be that of the outputs.

    Raises:
        TypeError: for another kind of path, name or device.
        ValueError: for the names of both a variable and a file, or a name that no variable can have.

    Example:
        >>> import pickle, tempfile
        >>> import mipoison as mp, torch
        >>> p, folder = torch.tensor([[0.71, 0.29]]), tempfile.TemporaryDirectory()
        >>> mp.defenses.Rounding(1).save(f"{folder.name}/rounding.safetensors")
        >>> deferred = mp.Deferred(f"{folder.name}/rounding.safetensors")
        >>> pickle.loads(pickle.dumps(deferred))(p)
        tensor([[0.7000, 0.3000]])
    """

    def __init__(
        self,
        path: FilePath,
        *,
        key_env: str = _VARIABLE,
        key_file: FilePath | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.path = as_path(path)
        self.key_env = as_name(key_env)
        self.key_file = None if key_file is None else as_path(key_file)
        if key_file is not None and key_env != _VARIABLE:
            raise ValueError("expected key_env or key_file, got both; leave one of them out")
        self.device = torch.device(device)
        # Shared by all copies, and by no other Deferred.
        self._name = uuid.uuid4().hex
        self._defense: Defense | None = None

    @property
    def defense(self) -> Defense:
        """The defense of this process, loaded on the first use.

        Raises:
            ValueError: if the file holds no defense, or for a missing, wrong or needless key.
            OSError: if the file, or that of the key, cannot be read.
        """
        if self._defense is None:
            self._defense = self._of_process()
        return self._defense

    @property
    def failures(self) -> int:
        """See `Defense`; rows of this process."""
        return self.defense.failures

    def __call__(self, outputs: Rows, *, ids: Ids = None, validate: bool = True) -> Rows:
        """Defends a batch of outputs, see `Defense.forward`; raises beyond that what `defense` raises."""
        return self.defense(outputs, ids=ids, validate=validate)  # type: ignore[no-any-return]

    @compiled.outside_graphs
    def _of_process(self) -> Defense:
        """Loads the defense, if no copy of this has done so in this process."""
        with _LOADING:
            if self._name not in _loaded:
                _loaded[self._name] = self._read()
            _loaded.move_to_end(self._name)
            while len(_loaded) > _KEPT:
                _loaded.popitem(last=False)
            return _loaded[self._name]

    def _read(self) -> Defense:
        """Reads the file, and the key if the defense has one."""
        content = storage.load(self.path)
        kind, key = kind_in(content), None
        if self.key_file is not None:
            key = Key.from_file(self.key_file)
        elif needs_key(kind, content):
            key = Key.from_env(self.key_env)
        return restored(kind, content, key).to(self.device)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: not the defense."""
        return vars(self) | {"_defense": None}

    def __repr__(self) -> str:
        key = (
            f"key_env={self.key_env!r}" if self.key_file is None else f"key_file={self.key_file!r}"
        )
        return f"Deferred({self.path!r}, {key}, device={str(self.device)!r})"

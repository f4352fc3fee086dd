"""Embeddings processed for many chats on one device."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from titan_nb.chat.annotations import read_chat_id
from titan_nb.chat.device import resolve
from titan_nb.chat.process import Options, Steps, default_device, run
from titan_nb.chat.quantise import dequantise
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import torch

    from titan_nb.chat.pca import Components

__all__ = ["EmbeddingService", "Processed", "create_service"]


@dataclass(frozen=True, slots=True)
class Processed:
    """Processed embeddings, with what became of them.

    Attributes:
        embeddings: Shape (n, k), as `process_embeddings` returns them.
        codes: The codes, packed: int8, or two to a byte for 4 bits, or eight for 1 bit; None without
            quantisation.
        scales: One per row, float32, shape (n, 1), or None.
        bits: Bits per code, or None.
        explained_variance: The share of the variance that the principal components kept of the rows they were
            fitted to, from 0 to 1; None where the dimension was not reduced.
        dimensions: Numbers per row.
        device: Where the work was done, such as ``cuda:0``.
        seconds: How long it took, to the end of the work on the GPU.
    """

    embeddings: torch.Tensor
    codes: torch.Tensor | None
    scales: torch.Tensor | None
    bits: int | None
    explained_variance: float | None
    dimensions: int
    device: str
    seconds: float

    def dequantize(self) -> torch.Tensor:
        """Return the numbers that the codes stand for, float32, shape (n, k).

        Raises:
            ChatError: If there are no codes.
        """
        if self.codes is None or self.scales is None or self.bits is None:
            raise ChatError("there are no codes: process with {'quantization': True}")
        return dequantise(self.codes, self.scales, self.bits, self.dimensions)


class EmbeddingService:
    """Processes embeddings on one device, and keeps the principal components of each chat.

    May be called from any thread.

    Args:
        device: Where rows from the host are processed, such as ``cpu`` or ``cuda:0``.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._components: dict[str, Components] = {}
        self._lock = threading.Lock()

    def process(
        self, embeddings: Any, options: Mapping[str, Any] | None = None, chat_id: str | None = None
    ) -> Processed:
        """Normalise, reduce and quantise; the options are those of `process_embeddings`.

        Args:
            embeddings: Tensor, array or list of lists, shape (n, d); not modified.
            options: What to do.
            chat_id: The chat they belong to. Its first call with ``dimension_reduction`` finds its principal
                components; later calls use the same, or the first few of them. Without a chat, each call
                finds its own.

        Raises:
            ChatError: If the embeddings cannot be used, or do not fit the chat's components.
            ResourceError: If memory is short even for a batch of one row.
            SettingsError: If an option is unknown or has a value that cannot be used.
        """
        began = time.perf_counter()
        chosen = Options.read(options)
        if chat_id is None or chosen.dimension_reduction is None:
            done = run(embeddings, chosen, self.device)
        else:
            done = self._run_for(read_chat_id(chat_id), embeddings, chosen)
        _wait_for(done.rows.device)
        count = chosen.dimension_reduction
        return Processed(
            embeddings=done.rows,
            codes=done.codes,
            scales=done.scales,
            bits=None if done.codes is None else chosen.quantization_bits,
            explained_variance=None
            if done.components is None or count is None
            else done.components.explained_variance(count),
            dimensions=int(done.rows.shape[1]),
            device=str(done.rows.device),
            seconds=time.perf_counter() - began,
        )

    def forget(self, chat_id: str) -> None:
        """Drop a chat's principal components; its next call finds new ones."""
        with self._lock:
            self._components.pop(chat_id, None)

    def _run_for(self, chat_id: str, embeddings: Any, options: Options) -> Steps:
        with self._lock:
            held = self._components.get(chat_id)
            if held is None:
                # Under the lock, so that two first calls do not each find components of their own.
                done = run(embeddings, options, self.device)
                if done.components is not None:
                    self._components[chat_id] = done.components
                return done
        if options.dimension_reduction is not None and options.dimension_reduction > held.count:
            raise ChatError(
                f"dimension_reduction is {options.dimension_reduction}, and chat {chat_id!r} has "
                f"{held.count} principal components: ask for at most as many, or call forget({chat_id!r}) "
                "first"
            )
        return run(embeddings, options, self.device, held)


def create_service(device: str | None = None) -> EmbeddingService:
    """Return a service on a device that is chosen once.

    Args:
        device: Such as ``cpu`` or ``cuda:0``. By default a GPU if this process uses one already, since titan
            never starts one by itself, and the CPU otherwise.

    Raises:
        SettingsError: If the device cannot be used here.
    """
    return EmbeddingService(default_device() if device is None else str(resolve(device)))


def _wait_for(device: torch.device) -> None:
    """Wait until the GPU has done what it was told."""
    import torch

    wait = None if device.type == "cpu" else getattr(vars(torch).get(device.type), "synchronize", None)
    if wait is not None:
        wait(device)

"""Embeddings in, normalised embeddings out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from titan_nb.chat.device import own_rules, resolve
from titan_nb.chat.normalise import normalise
from titan_nb.chat.pca import Components, fit
from titan_nb.chat.quantise import BITS, dequantise, quantise
from titan_nb.chat.rows import read_rows
from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.shortage import is_shortage, resource_error

if TYPE_CHECKING:
    import torch

__all__ = ["Options", "Steps", "default_device", "process_embeddings", "run"]

_PRECISIONS = ("float32", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Options:
    """How embeddings are processed.

    Attributes:
        dimension_reduction: To how many numbers per row, by principal components; None leaves all.
        quantization: Whether rows become codes with one scale each.
        quantization_bits: Bits per number: 8, 4 or 1.
        batch_size: Rows per batch; None for as many as suit the device.
        precision: Of the result: ``float32``, ``float16`` or ``bfloat16``.
        device: Where the work is done, such as ``cuda:0``; None for where the embeddings are, or a GPU that
            is in use already.
    """

    dimension_reduction: int | None = None
    quantization: bool = False
    quantization_bits: int = 8
    batch_size: int | None = None
    precision: str = "float32"
    device: Any = None

    @classmethod
    def read(cls, options: Mapping[str, Any] | None) -> Options:
        """Return the options of a dict; None in it stands for the default.

        Raises:
            SettingsError: If one is unknown or has a value that cannot be used.
        """
        if options is None:
            return cls()
        if not isinstance(options, Mapping):
            raise SettingsError(
                f"options is a {type(options).__name__}: pass a dict, such as {{'batch_size': 256}}"
            )
        known = cls.__slots__
        for name in options:
            if name not in known:
                nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
                raise SettingsError(f"unknown option {name!r}; did you mean {nearest!r}?")
        return cls(**{name: value for name, value in options.items() if value is not None})

    def __post_init__(self) -> None:
        for name, meant in (("dimension_reduction", "numbers per row"), ("batch_size", "rows")):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise SettingsError(f"{name} is {value!r}: give a whole number of {meant}, 1 or more")
        if not isinstance(self.quantization, bool):
            raise SettingsError(f"quantization is {self.quantization!r}: give True or False")
        bits = self.quantization_bits
        if isinstance(bits, bool) or bits not in BITS:
            raise SettingsError(f"quantization_bits is {bits!r}: give 8, 4 or 1")
        if self.precision not in _PRECISIONS:
            raise SettingsError(f"precision is {self.precision!r}: give one of {', '.join(_PRECISIONS)}")


@dataclass(frozen=True, slots=True)
class Steps:
    """What came out of each step.

    Attributes:
        rows: The result, shape (n, k), in the precision asked for.
        components: The principal components that were used, or None.
        codes: The codes, packed as by `titan_nb.chat.quantise.quantise`, or None.
        scales: Their scales, float32, shape (n, 1), or None.
    """

    rows: torch.Tensor
    components: Components | None
    codes: torch.Tensor | None
    scales: torch.Tensor | None


def process_embeddings(embeddings: Any, options: Mapping[str, Any] | None = None) -> torch.Tensor:
    """Normalise each row of ``embeddings`` to length one.

    The work is done on the GPU when the embeddings are there, or when this process uses one already; titan
    never starts a GPU by itself. A batch that does not fit into memory is halved, down to one row.

    Args:
        embeddings: Tensor, array or list of lists of shape (n, d); not modified.
        options: Any of ``dimension_reduction``, to how many numbers per row, by principal components of these
            rows, after which they are normalised again; ``quantization`` with ``quantization_bits`` (8, 4 or
            1), which gives the numbers that the codes stand for; ``batch_size``, the rows per batch;
            ``precision`` (``"float32"``, ``"float16"`` or ``"bfloat16"``); and ``device``, such as ``"cpu"``
            or ``"cuda:0"``. `titan_nb.chat.service.create_service` gives the codes themselves, and keeps the
            components of each chat.

    Returns:
        A new tensor of shape (n, d), float32 unless a precision was asked for. Its rows have Euclidean length
        1 +- 1e-6, but for what half precision and quantisation round off.

    Raises:
        ChatError: If the shape or dtype is wrong, a row holds NaN, infinity or only zeros, or there are fewer
            rows than components.
        ResourceError: If memory is short even for a batch of one row; it says how many bytes were requested
            and how many are available.
        SettingsError: If an option is unknown or has a value that cannot be used.
    """
    chosen = Options.read(options)
    return run(embeddings, chosen).rows


def run(
    embeddings: Any, options: Options, device: str | None = None, components: Components | None = None
) -> Steps:
    """Do what the options say, and return what came out of each step; see `process_embeddings`.

    Args:
        embeddings: Shape (n, d).
        options: What to do.
        device: Where, unless the options name a device or the embeddings are on a GPU; by default
            `default_device`.
        components: Principal components to use; by default they are fitted to these rows.
    """
    import torch

    asked = None if options.device is None else resolve(options.device)
    rows = read_rows(embeddings)
    on_host = rows.device.type == "cpu"
    where = asked or (torch.device(device or default_device()) if on_host else rows.device)
    unit = normalise(rows, where, options.batch_size)
    if options.dimension_reduction is None and not options.quantization and options.precision == "float32":
        return Steps(unit, None, None, None)
    codes = scales = None
    if options.dimension_reduction is None:
        components = None
    try:
        with own_rules(where):
            if options.dimension_reduction is not None:
                components = components or fit(unit, options.dimension_reduction)
                reduced = components.project(unit, options.dimension_reduction)
                unit = normalise(reduced, where, options.batch_size, "row {} in fewer dimensions".format)
            if options.quantization:
                codes, scales = quantise(unit, options.quantization_bits)
                unit = dequantise(codes, scales, options.quantization_bits, unit.shape[1])
            unit = unit.to(getattr(torch, options.precision))
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        doing = f"processing {unit.shape[0]} x {unit.shape[1]} numbers"
        raise resource_error(doing, unit.numel() * 4, where) from error
    return Steps(unit, components, codes, scales)


def default_device() -> str:
    """Return where rows from the host are processed: a GPU that this process uses already, or ``cpu``."""
    gpu = accelerator()
    # The work is in float64, which Apple's GPU has not.
    if gpu is None or gpu.kind == "mps":
        return "cpu"
    return f"{gpu.kind}:{gpu.current_index()}"

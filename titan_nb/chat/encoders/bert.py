"""The encoder half of a transformer, as BERT and MiniLM have it.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805; Wang et al. 2020, https://arxiv.org/abs/2002.10957. Only
what turns tokens into one vector per text: no dropout, no training.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["Bert"]


class Bert:
    """A model read from its files, in float32 on the host.

    Args:
        config_file: Its ``config.json``.
        weights_file: Its ``model.safetensors``, which is mapped, not copied.
    """

    def __init__(self, config_file: Path, weights_file: Path) -> None:
        from safetensors import safe_open

        config = json.loads(config_file.read_text("utf-8"))
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._epsilon = float(config["layer_norm_eps"])
        with safe_open(weights_file, framework="pt", device="cpu") as file:
            self._weights: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def __call__(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the mean of each text's token vectors, made length one.

        Args:
            tokens: Token numbers, int64, shape (n, t); what follows a text's end is ignored.
            lengths: Tokens per text, int64, shape (n,), each at least 1.

        Returns:
            Unit rows, float32, shape (n, d).
        """
        import torch
        from torch.nn import functional

        real = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        hidden = self._embed(tokens)
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            attended = self._dense(self._attend(hidden, real, name), f"{name}.attention.output.dense")
            hidden = self._norm(hidden + attended, f"{name}.attention.output.LayerNorm")
            wide = functional.gelu(self._dense(hidden, f"{name}.intermediate.dense"))
            hidden = self._norm(
                hidden + self._dense(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm"
            )
        mean = (hidden * real[:, :, None]).sum(dim=1) / lengths[:, None]
        return functional.normalize(mean, dim=1)

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        words = self._weights["embeddings.word_embeddings.weight"][tokens]
        places = self._weights["embeddings.position_embeddings.weight"][: tokens.shape[1]]
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]
        return self._norm(words + places + kind, "embeddings.LayerNorm")

    def _attend(self, hidden: torch.Tensor, real: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        count, length, dimension = hidden.shape
        query, key, value = (
            self._dense(hidden, f"{name}.attention.self.{part}")
            .view(count, length, self._heads, dimension // self._heads)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None, :])
        return mixed.transpose(1, 2).reshape(count, length, dimension)

    def _dense(self, hidden: torch.Tensor, name: str) -> Any:
        from torch.nn import functional

        return functional.linear(hidden, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, hidden: torch.Tensor, name: str) -> Any:
        from torch.nn import functional

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return functional.layer_norm(hidden, hidden.shape[-1:], weight, bias, self._epsilon)

"""Models of sentence-transformers by their names; made-up classes, which say that they come from there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from titan_nb.chat.encoders.identity import identity_of
from titan_nb.chat.encoders.sentences import SentenceEncoder, model_name


class SentenceTransformer(torch.nn.Sequential):
    __module__ = "sentence_transformers.sentence_transformer.model"

    model_card_data: object = None

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.ones((len(texts), 2))


class Fine(SentenceTransformer):
    """A user's own subclass."""

    __module__ = "mine"


class Part(torch.nn.Module):
    def __init__(self, name: str, revision: str | None, attribute: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))
        config = SimpleNamespace(_name_or_path=name, _commit_hash=revision)
        setattr(self, attribute, SimpleNamespace(config=config))


@pytest.mark.parametrize("attribute", ["auto_model", "model"])
@pytest.mark.parametrize("kind", [SentenceTransformer, Fine])
def test_the_name_is_that_of_the_transformer_inside(kind: type[SentenceTransformer], attribute: str) -> None:
    model = kind(torch.nn.Identity(), Part("org/model", "0123456789abcdef", attribute))
    assert model_name(model) == "org/model@01234567"
    assert model_name(kind(Part("org/model", None, attribute))) == "org/model"


def test_all_ways_to_pass_one_have_one_identity() -> None:
    model = SentenceTransformer(Part("org/model", None, "auto_model"))
    assert {identity_of(model), identity_of(model.encode), identity_of(SentenceEncoder(model))} == {
        "org/model"
    }


def test_without_a_transformer_the_card_knows() -> None:
    model = SentenceTransformer(torch.nn.Linear(2, 2))
    model.model_card_data = SimpleNamespace(model_id=None, base_model="org/static")
    assert model_name(model) == "org/static"


def test_a_model_without_a_name_goes_by_its_first_numbers() -> None:
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    with torch.no_grad():
        other.weight.copy_(one.weight + 1)
    names = [model_name(SentenceTransformer(part)) for part in (one, other, one, torch.nn.Identity())]
    assert names[0] == names[2]
    assert len(set(names)) == 3
    assert all(name is not None and name.startswith("sentence_transformers#") for name in names)


def test_nothing_else_has_such_a_name() -> None:
    assert model_name(torch.nn.Linear(2, 2)) is None
    assert model_name(len) is None

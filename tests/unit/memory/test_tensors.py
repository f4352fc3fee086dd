"""Which tensors and optimizers are found in objects."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from titan_nb.memory.tensors import optimizers_of, shape_of, tensors_of


def labels(**objects: Any) -> list[str]:
    return [label for label, _ in tensors_of(objects.items())]


def test_a_module_gives_parameters_and_buffers_of_all_its_parts() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    expected = {id(t) for t in (*model.parameters(), *model.buffers())}
    assert {id(tensor) for _, tensor in tensors_of([("model", model)])} == expected
    assert len(expected) == 7


def test_an_optimizer_gives_its_parameters_and_its_state() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    assert labels(optimizer=optimizer) == ["optimizer"] * 4
    assert labels(weight=weight, optimizer=optimizer) == ["weight"] + ["optimizer"] * 3
    found = tensors_of([("optimizer", optimizer)], in_optimizers=False)
    assert list(found) == []


def test_containers_and_attributes_are_looked_into() -> None:
    class Trainer:
        pass

    trainer = Trainer()
    model = torch.nn.Linear(1, 1)
    trainer.models = [model]  # type: ignore[attr-defined]
    trainer.optimizer = torch.optim.SGD(model.parameters())  # type: ignore[attr-defined]
    assert labels(trainer=trainer) == ["trainer", "trainer"]
    assert list(optimizers_of([("t", trainer), ("again", trainer.optimizer)])) == [trainer.optimizer]  # type: ignore[attr-defined]
    assert labels(pair=(torch.ones(1), {"a": torch.ones(1)}), one=torch.ones(1)) == ["pair", "pair", "one"]


def test_data_is_not_walked() -> None:
    assert labels(data=[torch.ones(1)] * 1001) == []
    assert labels(data=[torch.ones(1)] * 1000) == ["data"]
    deep: Any = torch.ones(1)
    for _ in range(3):
        deep = [deep]
    assert labels(deep=deep) == []
    cycle: list[Any] = []
    cycle.append(cycle)
    assert labels(cycle=cycle, numbers=[1, 2.0, "x"]) == []


def test_objects_that_lie_are_not_asked() -> None:
    class Liar:
        @property
        def __class__(self) -> Any:
            pytest.fail("user code was run")

        def __eq__(self, other: object) -> bool:
            pytest.fail("user code was run")

        __hash__ = None  # type: ignore[assignment]

        def __getattr__(self, name: str) -> Any:
            pytest.fail("user code was run")

    assert labels(liar=Liar(), liars=[Liar()]) == []


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_shapes_are_told_of_any_tensor() -> None:
    assert shape_of(torch.ones(2, 3)) == (torch.float32, 2, 3)
    ragged = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.strided)
    assert shape_of(ragged) == (torch.float32,)


@pytest.mark.parametrize("there", [None, object()])
def test_without_torch_there_are_none(monkeypatch: pytest.MonkeyPatch, there: object) -> None:
    monkeypatch.setitem(sys.modules, "torch", there)
    assert labels(x=1) == []
    assert list(optimizers_of([("x", 1)])) == []

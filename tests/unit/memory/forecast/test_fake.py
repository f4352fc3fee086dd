"""The counting mode in this process, on tensors that nobody else needs."""

from __future__ import annotations

import gc

import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
)

from titan_nb.memory.forecast import forecast
from titan_nb.memory.forecast.fake import count_resident, counting_mode
from titan_nb.memory.forecast.storages import Storages


@pytest.fixture
def storages() -> Storages:
    return Storages()


def test_operations_are_counted_and_not_done(storages: Storages) -> None:
    real = torch.ones(256)
    with counting_mode(storages):
        result = real + 1
        real.add_(1)
        assert isinstance(result, FakeTensor)
    assert real.tolist() == [1.0] * 256
    assert storages.now_bytes == {"cpu": 1024}
    del result
    assert storages.now_bytes == {"cpu": 0}


def test_whole_numbers_and_single_numbers_are_real(storages: Storages) -> None:
    labels, step = torch.arange(10), torch.tensor(2.5)
    with counting_mode(storages):
        assert (labels % 3 == 0).sum().item() == 4
        assert labels[labels > 7].tolist() == [8, 9]
        step += 1
        assert step.item() == 3.5
        assert len(torch.randperm(100).unique()) == 100
        assert isinstance(labels * 0.5, FakeTensor)
        with pytest.raises(DataDependentOutputException):
            (labels * 0.5).sum().item()
        with pytest.raises(DynamicOutputShapeException):
            torch.ones(3).nonzero()


def test_large_whole_numbers_are_not_computed(storages: Storages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titan_nb.memory.forecast.fake.KNOWN_BYTES", 799)
    with counting_mode(storages):
        assert isinstance(torch.arange(100), FakeTensor)
        assert not isinstance(torch.arange(99), FakeTensor)


def test_a_known_value_that_was_written_from_an_unknown_one_is_lost(storages: Storages) -> None:
    count = torch.tensor(0)
    with counting_mode(storages):
        count.add_((torch.rand(5) > 0.5).sum())
        with pytest.raises(DataDependentOutputException):
            count.item()


def test_gradients_reach_real_parameters(storages: Storages) -> None:
    layer = torch.nn.Linear(4, 4)
    with counting_mode(storages):
        layer(torch.ones(2, 4)).sum().backward()
        assert isinstance(layer.weight.grad, FakeTensor)
        assert tuple(layer.weight.grad.shape) == (4, 4)
    layer.zero_grad()


def test_sparse_tensors_pass_through(storages: Storages) -> None:
    sparse = torch.eye(3).to_sparse()
    with counting_mode(storages):
        assert tuple((sparse @ torch.ones(3, 2)).shape) == (3, 2)


def test_a_device_that_is_not_there_is_refused(storages: Storages) -> None:
    with counting_mode(storages), pytest.raises(RuntimeError, match="there is no xpu device here"):
        torch.zeros(3, device="xpu")


def test_a_device_that_is_known_to_be_there_is_not_asked_for(storages: Storages) -> None:
    with counting_mode(storages, ["cuda:0"]):
        held = torch.zeros(129, device="cuda:0")
        assert storages.now_bytes == {"cuda:0": 1024}
        assert held.device.type == "cuda"


def test_a_device_that_torch_finds_is_used(storages: Storages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with counting_mode(storages):
        held = torch.zeros(1, device="cuda:0")
    assert held.device.type == "cuda"
    assert storages.now_bytes == {"cuda:0": 512}


def test_resident_storages_count_once(storages: Storages) -> None:
    before = count_resident(Storages()).get("cpu", 0)
    base = torch.zeros(1 << 18)
    views = [base[index:] for index in range(5)]
    meta = torch.zeros(1 << 30, device="meta")
    found = count_resident(storages)
    assert found["cpu"] - before == 1 << 20
    assert "meta" not in found
    assert (len(views), meta.numel()) == (5, 1 << 30)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("layout", ["coo", "csr", "csc"])
def test_a_sparse_tensor_is_there_with_its_parts(layout: str) -> None:
    gc.collect()
    before = count_resident(Storages()).get("cpu", 0)
    if layout == "coo":
        sparse = torch.sparse_coo_tensor(torch.zeros(2, 625, dtype=torch.long), torch.ones(625), (625, 625))
    else:
        make = torch.sparse_csr_tensor if layout == "csr" else torch.sparse_csc_tensor
        sparse = make(torch.arange(626), torch.zeros(625, dtype=torch.long), torch.ones(625), (625, 625))
    indices = 2 * 625 if layout == "coo" else 626 + 625
    assert count_resident(Storages())["cpu"] - before == indices * 8 + 625 * 4
    assert sparse.shape == (625, 625)


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_what_a_sparse_tensor_held_is_free_for_the_cell() -> None:
    namespace = {"torch": torch, "sparse": torch.ones(1000, 1000).to_sparse()}
    found = forecast("del sparse\nx = torch.ones(1000, 1000)", namespace)
    assert found.complete, found.describe()
    assert found.additional_bytes["cpu"] == 0

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch
from torch import nn

from tests.fakes.accelerator import install, uninstall


@pytest.fixture(autouse=True)
def fakegpu() -> Iterator[ModuleType]:
    # An exception that pytest caught is a cycle, and holds the tensors of its test.
    gc.collect()
    yield install(256 << 20, devices=2)
    uninstall()


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, 10))


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 10))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(-1, (2, 4, 4)),
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(6, 3, 2),
        nn.Flatten(),
        nn.Linear(27, 10),
    )


def trained(make: Callable[[], nn.Module], shape: tuple[int, ...], device: str) -> list[torch.Tensor]:
    """Train for some steps, and return the last loss and the parameters."""
    torch.manual_seed(0)
    model = make().to(device)
    data, target = torch.randn(*shape).to(device), torch.randint(0, 10, shape[:-1]).to(device)
    with torch.no_grad():
        model(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-4)
    torch.manual_seed(1)
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(data).flatten(0, -2), target.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert all(value.device.type == device for value in model.parameters())
    return [loss.detach().cpu(), *(value.detach().cpu() for value in model.parameters())]


@pytest.mark.parametrize(
    ("make", "shape"), [(mlp, (16, 32)), (transformer, (2, 5, 32)), (convolutions, (8, 32))]
)
def test_training_gives_what_the_host_gives(
    fakegpu: ModuleType, make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    host, device = trained(make, shape, "cpu"), trained(make, shape, "fakegpu")
    torch.testing.assert_close(device, host, rtol=1e-4, atol=1e-4)
    assert fakegpu.max_memory_allocated() > sum(value.nbytes for value in host)
    assert fakegpu.memory_allocated() == 0


def test_an_out_of_memory_error_in_a_backward_pass(fakegpu: ModuleType) -> None:
    weight = torch.randn(1000, 1000, device="fakegpu", requires_grad=True)
    loss = (weight * weight).exp().sum()
    with (
        fakegpu.hold(fakegpu.mem_get_info()[0]),
        pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 3\.81 MiB"),
    ):
        loss.backward()
    assert weight.grad is None


def test_a_gradient_that_is_zero_needs_no_memory(fakegpu: ModuleType) -> None:
    # Torch writes it as a tensor without memory, which an operator of the host's would read.
    x = torch.tensor([-2.0, 0.0, 3.0], device="fakegpu", requires_grad=True)
    before = fakegpu.memory_allocated()
    zero = torch._efficientzerotensor((1 << 20,), device="fakegpu")
    assert fakegpu.memory_allocated() == before
    assert zero.device == x.device
    assert torch.equal((zero + 1).cpu(), torch.ones(1 << 20))
    x.sgn().sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.cpu(), torch.zeros(3))


@pytest.mark.parametrize("p", [0.0, 0.25, 1.0])
def test_dropout_takes_no_memory_but_its_results(fakegpu: ModuleType, p: float) -> None:
    x = torch.ones(1 << 20, device="fakegpu")
    before = fakegpu.memory_allocated()
    fakegpu.reset_peak_memory_stats()
    result, kept = torch.native_dropout(x, p, True)
    assert fakegpu.max_memory_allocated() - before == (4 << 20) + (1 << 20)
    assert kept.dtype is torch.bool
    assert torch.equal(result, kept / (1 - p) if p < 1 else torch.zeros_like(x))
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=0.01)


def test_a_module_keeps_its_parameters_when_it_moves() -> None:
    model = nn.Linear(2, 2)
    weight = model.weight
    assert model.to("fakegpu").weight is weight
    assert weight.is_fakegpu
    assert model.cpu().weight is weight
    assert nn.Linear(2, 2).fakegpu().bias.device == torch.device("fakegpu:0")


def test_views_share_the_memory(fakegpu: ModuleType) -> None:
    base = torch.zeros(4, 6, device="fakegpu")
    allocated = fakegpu.memory_allocated()
    views = [base[1], base.t(), base.view(-1), base.unfold(1, 2, 2), base[:, ::2], base.diagonal()]
    views += [base.expand(2, 4, 6), base.reshape(2, 12), torch.view_as_complex(base.view(4, 3, 2))]
    assert fakegpu.memory_allocated() == allocated
    assert {view.untyped_storage()._cdata for view in views} == {base.untyped_storage()._cdata}
    views[0].add_(1)
    base.t()[2].mul_(5)
    base[base == 0] = 7
    assert base[:2].tolist() == [[7] * 6, [1, 1, 5, 1, 1, 1]]


def test_indexing_and_results() -> None:
    x = torch.arange(12.0, device="fakegpu").reshape(3, 4)
    assert x[torch.tensor([2, 0])].tolist() == x[[2, 0]].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    x.index_put_(
        (torch.tensor([0, 0]), torch.tensor([1, 1])), torch.ones(2, device="fakegpu"), accumulate=True
    )
    assert (x[0, 1].item(), x.max().item(), bool(x.any())) == (3.0, 11.0, True)
    values, indices = x.sort(descending=True)
    assert {values.device, indices.device, x.nonzero().device} == {x.device}
    assert [part.shape[1] for part in x.split(3, dim=1)] == [3, 1]
    out = torch.empty(0, device="fakegpu")
    torch.mm(x, x.t(), out=out)
    assert out.cpu().numpy().shape == (3, 3)
    assert repr(x[2, :2]) == "tensor([8., 9.], device='fakegpu:0')"
    assert torch.tensor([1, 2], device="fakegpu").numpy(force=True).tolist() == [1, 2]
    number = torch.tensor([1 + 2j], device="fakegpu")
    assert number.conj().cpu().tolist() == [1 - 2j]
    assert (number.conj().imag + 1).tolist() == [-1]


def test_the_host_is_another_device() -> None:
    x = torch.ones(3, device="fakegpu")
    assert (x + torch.tensor(2.0)).tolist() == [3, 3, 3]
    with pytest.raises(RuntimeError, match="at least two devices, fakegpu:0 and cpu!"):
        x + torch.ones(3)
    with pytest.raises(TypeError, match="can't convert fakegpu:0 device type tensor to numpy"):
        x.numpy()


def test_memory_that_is_resized(fakegpu: ModuleType) -> None:
    x = torch.arange(4.0, device="fakegpu")
    storage = x.untyped_storage()
    x.resize_(1000)
    assert (x[:4].tolist(), storage.nbytes()) == ([0, 1, 2, 3], 4000)
    storage.resize_(0)
    assert fakegpu.memory_allocated() == 0
    x.set_(torch.ones(5, device="fakegpu").untyped_storage())
    assert torch.add(torch.ones(2, device="fakegpu"), 1, out=x.resize_(0)).tolist() == [2, 2]
    torch.utils.swap_tensors(x, other := torch.zeros(7))
    assert (x.device.type, other.device.type, other.tolist()) == ("cpu", "fakegpu", [2, 2])


def test_a_tensor_that_is_saved() -> None:
    x = torch.arange(4.0, device="fakegpu:1")
    file = io.BytesIO()
    torch.save({"whole": x, "part": x[1:]}, file)
    file.seek(0)
    loaded = torch.load(file)
    assert loaded["whole"].device == x.device
    assert loaded["part"].untyped_storage()._cdata == loaded["whole"].untyped_storage()._cdata
    file.seek(0)
    assert torch.load(file, map_location="cpu")["part"].tolist() == [1, 2, 3]
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert (again.device, again.tolist()) == (x.device, x.tolist())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    model, x = nn.Linear(4, 4).to("fakegpu"), torch.randn(2, 4, device="fakegpu")
    with torch.autocast("fakegpu", dtype=dtype):
        y = model(x)
        loss = nn.functional.mse_loss(y, x)
    assert (y.dtype, loss.dtype) == (dtype, torch.float32)
    loss.backward()
    assert model.weight.grad is not None
    assert model.weight.grad.dtype == torch.float32
    assert model(x).dtype == torch.float32


def test_random_numbers(fakegpu: ModuleType) -> None:
    torch.manual_seed(3)
    host = torch.get_rng_state()
    drawn = torch.randn(5, device="fakegpu")
    nn.functional.dropout(drawn, 0.5)
    assert torch.equal(torch.get_rng_state(), host)
    assert torch.equal(drawn.cpu(), torch.randn(5))
    state = fakegpu.get_rng_state()
    first = torch.rand(3, device="fakegpu")
    fakegpu.set_rng_state(state)
    assert torch.equal(torch.rand(3, device="fakegpu"), first)
    with torch.random.fork_rng(devices=[0, 1], device_type="fakegpu"):
        torch.rand(3, device="fakegpu")
        fakegpu.manual_seed(5)
        assert fakegpu.initial_seed() == 5
    assert fakegpu.initial_seed() == 3
    own = torch.Generator("fakegpu").manual_seed(7)
    assert (
        torch.randperm(9, generator=own, device="fakegpu").device == own.device == torch.device("fakegpu:0")
    )
    with pytest.raises(TypeError, match="ByteTensor of"):
        fakegpu.set_rng_state(torch.zeros(3, dtype=torch.uint8))


def test_pinned_memory() -> None:
    pinned = torch.arange(4).pin_memory()
    assert pinned.is_pinned()
    assert pinned[1:].is_pinned()
    assert not torch.arange(4).is_pinned()
    x = pinned.to("fakegpu", non_blocking=True)
    x.record_stream(torch.accelerator.current_stream())
    assert x.tolist() == [0, 1, 2, 3]


def test_a_forked_child_may_free_but_not_use() -> None:
    x = torch.ones(4, device="fakegpu")
    with warnings.catch_warnings():
        # Newer Pythons warn of a fork beside threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            refused = 0
            for use in (lambda: x + 1, lambda: torch.ones(1, device="fakegpu"), torch.fakegpu.synchronize):
                try:
                    use()
                except RuntimeError as error:
                    refused += "Cannot re-initialize fakegpu in forked subprocess" in str(error)
            seen = torch.fakegpu.is_initialized(), torch.fakegpu._is_in_bad_fork(), refused
            del x
            os._exit(0 if seen == (False, True, 3) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (x + 1).tolist() == [2, 2, 2, 2]

"""Principal components: those of an independent computation, steady, and refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titan_nb.chat.pca import fit
from titan_nb.errors import ChatError


def table(count: int, dimension: int) -> torch.Tensor:
    rows = torch.randn(count, dimension, generator=torch.Generator().manual_seed(5))
    rows *= torch.linspace(3, 0.5, dimension)
    return rows / rows.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("count", "dimension"), [(200, 12), (9, 40)])
def test_components_are_those_of_a_singular_value_decomposition(count: int, dimension: int) -> None:
    rows = table(count, dimension)
    found = fit(rows, 4)
    exact = rows.double().numpy()
    exact = exact - exact.mean(axis=0)
    _, values, axes = np.linalg.svd(exact, full_matrices=False)
    assert found.count == 4
    np.testing.assert_allclose(np.abs((found.axes.numpy() * axes[:4]).sum(axis=1)), 1.0, atol=1e-9)
    np.testing.assert_allclose(found.explained, (values**2 / (values**2).sum())[:4], atol=1e-12)
    assert found.explained_variance(2) == pytest.approx(sum(found.explained[:2]))
    projected = found.project(rows, 3)
    assert (projected.shape, projected.dtype) == ((count, 3), torch.float32)
    np.testing.assert_allclose(projected.numpy(), exact @ found.axes[:3].numpy().T, atol=1e-6)


def test_the_sign_makes_the_largest_entry_positive_whatever_the_order_of_rows() -> None:
    rows = table(100, 8)
    axes = fit(rows, 8).axes
    assert (axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)) > 0).all()
    torch.testing.assert_close(fit(rows.flip(0), 8).axes, axes, atol=1e-9, rtol=0)


def test_all_components_keep_all_of_the_variance_and_the_distances() -> None:
    rows = table(60, 6)
    found = fit(rows, 6)
    assert found.explained_variance(6) == pytest.approx(1.0)
    there, here = found.project(rows, 6), rows
    for row in (0, 17, 59):
        torch.testing.assert_close((there - there[row]).norm(dim=1), (here - here[row]).norm(dim=1))


def test_directions_without_variance_are_zero_instead_of_noise() -> None:
    rows = table(5, 20)
    found = fit(rows, 5)
    assert found.explained[4] == 0
    assert not found.axes[4].any()
    assert found.axes[:4].norm(dim=1).numpy() == pytest.approx(np.ones(4))


def test_a_row_that_is_the_mean_has_no_coordinates() -> None:
    rows = table(200, 12)
    mean = rows.mean(dim=0, keepdim=True)
    assert not fit(rows, 3).project(mean, 3).any()


def test_large_tables_are_fitted_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(101, 7)
    whole = fit(rows, 3)
    monkeypatch.setattr("titan_nb.chat.pca._BATCH_NUMBERS", 70)
    torch.testing.assert_close(fit(rows, 3).axes, whole.axes, atol=1e-10, rtol=0)
    assert torch.equal(fit(rows, 3).project(rows, 3), whole.project(rows, 3))


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ChatError, match="dimension_reduction is 5, and there are 4 rows to fit it to"):
        fit(table(4, 9), 5)
    with pytest.raises(ChatError, match="dimension_reduction is 9, and the rows have 8 numbers"):
        fit(table(20, 8), 9)
    with pytest.raises(ChatError, match="all rows here are equal"):
        fit(table(1, 8).repeat(10, 1), 2)
    with pytest.raises(ChatError, match=r"the rows have 7 numbers, .* belong to rows of 8"):
        fit(table(20, 8), 2).project(table(3, 7), 2)

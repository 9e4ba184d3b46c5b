"""Every rule of dual numbers against reverse mode in float64: first and second derivatives in directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as nnf
from torch.nn.attention import SDPBackend, sdpa_kernel

from worker.influence import dual

Tensor = torch.Tensor
MASK = torch.tensor([[True, False, True], [False, False, False], [True, True, True], [True, True, False]])
PADDING = torch.tensor([[False] * 3 + [True]] * 3)
PLACES = torch.tensor([2, 0, 2])

# of x [2, 3, 4, 6] and w [2, 3, 4, 6], both moving
OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add with a factor": lambda x, w: torch.add(x, w, alpha=2.5),
    "subtracted from a number": lambda x, w: 2 - x * w,
    "quotient": lambda x, w: x / (w * w + 1),
    "quotient by a number": lambda x, w: x / 3,
    "number over it": lambda x, w: 2 / (x * x + 1),
    "bmm": lambda x, w: torch.bmm(x[0], w[0].transpose(1, 2)),
    "mm of transposes": lambda x, w: x[0, 0] @ w[0, 0].T @ x[0, 0].mT.mT,
    "einsum": lambda x, w: torch.einsum("bchw,bcvw->bhv", x, w),
    "addmm": lambda x, w: torch.addmm(x[0, 0, :, :4], x[0, 0], w[0, 0].T),
    "conv1d": lambda x, w: nnf.conv1d(x[0], w[:, 0, :, :3], w[0, 0, 0, :2], padding=1),
    "conv2d without a batch": lambda x, w: nnf.conv2d(x[0], w[:, :, :2, :2]),
    "conv3d": lambda x, w: nnf.conv3d(x[:, :, None], w[:, :, None, :2, :2], w[:2, 0, 0, 0]),
    "conv_transpose2d": lambda x, w: nnf.conv_transpose2d(x, w[0][:, :2, None, :2], w[0, 0, 0, :2], stride=2),
    "linear of a vector": lambda x, w: nnf.linear(x[0, 0, 0], w[0, 0], w[0, 0, :, 0]),
    "cat": lambda x, w: torch.cat([x * w, torch.ones(2, 3, 1, 6), w], 2),
    "stack": lambda x, w: torch.stack((x, w * x), dim=1),
    "where": lambda x, w: torch.where(x > 0, x * w, 1.5),
    "where of a tensor": lambda x, w: (x * w).where(w > 0, x),
    "maximum": lambda x, w: torch.maximum(x * x, w) - torch.minimum(x, w * x),
    "amax": lambda x, w: torch.amax(x * w, (2, 3), keepdim=True) - (x * w).amin(1, keepdim=True),
    "max along an axis": lambda x, w: (x * w).max(2).values - (x * w).min(2, keepdim=True)[0].sum(2),
    "max of all": lambda x, w: (x * w).max(),
    "clamp": lambda x, w: torch.clamp(x * w, -0.5, 0.5) + x.clamp(min=0.1) * w,
    "masked_fill": lambda x, w: (x * w).masked_fill(MASK.T[None, :, :, None], 2.0),
    "gather": lambda x, w: (x * w).gather(3, torch.ones(2, 3, 4, 2, dtype=torch.int64)),
    "index_select": lambda x, w: (x * w).index_select(1, PLACES),
    "indexed": lambda x, w: (x * w)[:, PLACES, 1:, ..., None],
    "pad": lambda x, w: nnf.pad(x * w, (1, 2), value=3.0),
    "pad reflecting": lambda x, w: nnf.pad(x * w, (1, 1, 1, 1), mode="reflect"),
    "interpolate": lambda x, w: nnf.interpolate(x * w, scale_factor=2, mode="bilinear"),
    "adaptive_avg_pool2d": lambda x, w: nnf.adaptive_avg_pool2d(x * w, (2, 3)),
    "pixel_shuffle": lambda x, w: nnf.pixel_shuffle((x * w).transpose(1, 2), 2),
    "repeat and flip": lambda x, w: (x * w).repeat(1, 2, 1, 1).flip(1).roll(1, 2),
    "split": lambda x, w: torch.mul(*(x * w).split(3, dim=3)) + x.chunk(2, -1)[0] * x.unbind(0)[0][..., :3],
    "unflatten": lambda x, w: (x * w).unflatten(3, (2, 3)).movedim(4, 1).expand_as(torch.ones(2, 3, 3, 4, 2)),
    "cumsum": lambda x, w: (x * w).cumsum(2),
    "to": lambda x, w: (x * w).to(torch.float64) * (x > 0).to(x.dtype),
    "gelu": lambda x, w: nnf.gelu(x * w),
    "gelu by tanh": lambda x, w: nnf.gelu(x * w, approximate="tanh"),
    "silu": lambda x, w: nnf.silu(x * w),
    "hardswish": lambda x, w: nnf.hardswish(2 * x * w),
    "relu6": lambda x, w: nnf.relu6(4 * x * w) * w,
    "hardtanh": lambda x, w: nnf.hardtanh(x * w, -0.5, 0.7) * w,
    "leaky_relu": lambda x, w: nnf.leaky_relu(x * w, 0.2) * w,
    "elu": lambda x, w: nnf.elu(x * w, 1.5),
    "mish": lambda x, w: nnf.mish(x * w),
    "softplus": lambda x, w: nnf.softplus(x * w),
    "softsign": lambda x, w: nnf.softsign(x * w),
    "logsigmoid": lambda x, w: nnf.logsigmoid(x * w),
    "abs": lambda x, w: (x * w).abs() * w,
    "softmax": lambda x, w: torch.softmax(x * w, 2),
    "log_softmax": lambda x, w: (x * w).log_softmax(2),
    "exp": lambda x, w: torch.exp(x * w) + torch.expm1(w) * x,
    "logs": lambda x, w: torch.log(x * x + 1) * torch.log2(w * w + 2) + torch.log1p(x * x * w * w),
    "roots": lambda x, w: torch.sqrt(x * x + 1) * torch.rsqrt(w * w + 1),
    "powers": lambda x, w: (x * w) ** 2 + x**3 + (w * w + 1) ** 0.5 + (x * x + 1) ** -1.5 + x.pow(4),
    "sine and others": lambda x, w: torch.sin(x * w) * torch.cos(w) + torch.tan(x / 9) + torch.atan(x * w),
    "hyperbolic": lambda x, w: torch.sinh(x * w) + torch.cosh(w) + torch.tanh(x * w),
    "erf and sigmoid": lambda x, w: torch.erf(x * w) * torch.sigmoid(x),
    "normalize": lambda x, w: nnf.normalize(x * w, dim=2),
    "norm": lambda x, w: torch.linalg.vector_norm(x * w, dim=3) * x.norm(dim=3) + w.norm(),
    "rms_norm": lambda x, w: nnf.rms_norm(x * w, (6,), w[0, 0, 0]),
    "group_norm": lambda x, w: nnf.group_norm(x * w, 3, w[0, :, 0, 0]),
    "instance_norm": lambda x, w: nnf.instance_norm(x * w, weight=w[0, :, 0, 0], bias=x[0, :, 0, 0]),
    "variance": lambda x, w: (x * w).var(2) + x.var(2, unbiased=False) * w.std((2,), keepdim=True).sum(2),
    "attention": lambda x, w: nnf.scaled_dot_product_attention(x, w, x * w, scale=0.3),
    "causal attention": lambda x, w: nnf.scaled_dot_product_attention(x, w, x * w, is_causal=True),
    "masked attention": lambda x, w: nnf.scaled_dot_product_attention(x, w[:, :, :3], w[:, :, 1:], MASK),
    "attention with heads shared": lambda x, w: nnf.scaled_dot_product_attention(
        x, w[:, :1], w[:, 1:2], enable_gqa=True
    ),
    "constants": lambda x, w: x * torch.ones_like(w) + torch.zeros_like(x) + w * (x * w).detach().floor(),
}  # fmt: skip


def drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


Function = Callable[[dict[str, Tensor]], Tensor]


def by_reverse_mode(
    function: Function, at: dict[str, Tensor], u: dict[str, Tensor], v: dict[str, Tensor], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """(Ds[u], D²s[u, v]) of s = Σ weights · f."""
    leaves = {name: x.clone().requires_grad_() for name, x in at.items()}

    def along(value: Tensor, direction: dict[str, Tensor], goes_on: bool) -> Tensor:
        found = torch.autograd.grad(value, list(leaves.values()), create_graph=goes_on, allow_unused=True)
        moved = zip(found, direction.values(), strict=True)
        return sum(((g * d).sum() for g, d in moved if g is not None), torch.zeros((), dtype=torch.float64))

    with sdpa_kernel(SDPBackend.MATH):
        first = along((function(leaves) * weights).sum(), u, True)
    return first.detach(), along(first, v, False) if first.requires_grad else torch.zeros_like(first)


def by_duals(
    function: Function, at: dict[str, Tensor], u: dict[str, Tensor], v: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """(Df[u], D²f[u, v])."""

    def slope(params: dict[str, Tensor]) -> tuple[Tensor, None]:
        return dual.jvp(lambda p: (function(p), None), (params,), (u,))[1], None

    return dual.jvp(slope, (at,), (v,))[:2]


def agree(function: Function, at: dict[str, Tensor]) -> None:
    u, v = ({name: torch.roll(x, shift, -1) for name, x in at.items()} for shift in (1, 2))
    first, second = by_duals(function, at, u, v)
    weights = torch.linspace(-1, 2, first.numel(), dtype=torch.float64).reshape(first.shape)
    expected = by_reverse_mode(function, at, u, v, weights)
    torch.testing.assert_close((first * weights).sum(), expected[0])
    torch.testing.assert_close((second * weights).sum(), expected[1])
    torch.testing.assert_close((by_duals(function, at, v, u)[1] * weights).sum(), expected[1])
    value = dual.jvp(lambda p: (function(p), None), (at,), (u,))[0]
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(value, function(at))


@pytest.fixture(autouse=True)
def doubles() -> Any:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_have_their_derivatives(name: str) -> None:
    x, w = drawn((2, 3, 4, 6), (2, 3, 4, 6))
    agree(lambda p: OPERATIONS[name](p["x"], p["w"]), {"x": x, "w": w})


def test_hardsigmoid_has_a_second_derivative_where_torchs_has_none() -> None:
    [x] = drawn((4, 6))
    u = {"x": torch.ones_like(x)}

    def hard(p: dict[str, Tensor]) -> Tensor:
        return nnf.hardsigmoid(3 * p["x"]) * p["x"]

    def spelt_out(p: dict[str, Tensor]) -> Tensor:
        return torch.clamp(p["x"] / 2 + 0.5, 0, 1) * p["x"]

    for found, expected in zip(
        by_duals(hard, {"x": x}, u, u), by_duals(spelt_out, {"x": x}, u, u), strict=True
    ):
        torch.testing.assert_close(found, expected)


class Attending(nn.Module):
    """nn.MultiheadAttention with its projections used together, or apart."""

    def __init__(self, masks: dict[str, Any], itself: bool) -> None:
        super().__init__()
        self.attention, self.masks, self.itself = nn.MultiheadAttention(6, 2), masks, itself

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.itself else 2 * x
        y, weights = self.attention(x, other, other, **self.masks)
        found: Tensor = y if weights is None else y.sum() + weights
        return found


@pytest.mark.parametrize(
    "masks",
    [
        {},
        {"need_weights": False},
        {"attn_mask": torch.ones(4, 4, dtype=torch.bool).triu(1), "need_weights": False, "is_causal": True},
        {"key_padding_mask": PADDING, "attn_mask": torch.ones(4, 4, dtype=torch.bool).triu(2)},
        {"key_padding_mask": -3 * PADDING.double(), "attn_mask": torch.eye(4).double().repeat(6, 1, 1)},
    ],
    ids=["weights", "plain", "causal", "padding", "numbers"],
)  # fmt: skip
@pytest.mark.parametrize("itself", [True, False], ids=["itself", "other"])
def test_multi_head_attention_has_its_derivatives(masks: dict[str, Any], itself: bool) -> None:
    network = Attending(masks, itself).double().eval()
    [x] = drawn((4, 3, 6))
    at = dict(zip(network.state_dict(), drawn(*(p.shape for p in network.parameters())), strict=True))
    agree(
        lambda p: functional_call(network, {k: t for k, t in p.items() if k != "x"}, (p["x"],)), at | {"x": x}
    )


def test_an_encoder_layer_of_torchs_goes_through() -> None:
    layer = nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", batch_first=True).double().eval()
    [x] = drawn((3, 4, 6))
    at = {name: p.detach() for name, p in layer.named_parameters()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        agree(lambda p: functional_call(layer, p, (x,), {"src_key_padding_mask": PADDING}), at)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def in_place(x: Tensor, w: Tensor) -> Tensor:
    y = x * w
    y += w
    y.add_(x, alpha=0.5)
    z = nnf.relu(y, inplace=True)
    return torch.square(y) * z


def test_what_is_changed_in_place_is_changed_for_all_that_hold_it() -> None:
    x, w = drawn((2, 3), (2, 3))
    agree(lambda p: in_place(p["x"], p["w"]), {"x": x, "w": w})


def of_a_view(x: Tensor) -> Tensor:
    y = x * 2
    part = y[0]
    part.mul_(3)
    return y


def of_what_is_viewed(x: Tensor) -> Tensor:
    y = x * 2
    rows = y.reshape(-1)
    y.mul_(3)
    return rows


def of_a_plain_one(x: Tensor) -> Tensor:
    y = torch.ones(2, 3)
    y += x
    return y


@pytest.mark.parametrize(
    "function",
    [
        of_a_view,
        of_what_is_viewed,
        of_a_plain_one,
        lambda x: torch.ones(2, 3) ** x,
        lambda x: torch.clamp(torch.ones(2, 3), max=x),
        lambda x: nnf.dropout(x, 0.5),
        lambda x: nnf.softplus(x, beta=2.0),
        lambda x: torch.linalg.vector_norm(x, 1),
        lambda x: torch.fft.fft(x).real,
    ],
)
def test_what_no_rule_covers_says_so(function: Callable[[Tensor], Tensor]) -> None:
    [x] = drawn((2, 3))
    with pytest.raises(dual.NoRuleError):
        dual.jvp(lambda p: (function(p["x"]), None), ({"x": x},), ({"x": x},))

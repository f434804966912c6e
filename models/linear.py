"""Frozen linear layers, plain or in 8 bits, with an adapter beside them or without: one operation each.

PEFT's own forward computes the adapter in float32: on a bfloat16 base it copies every input to float32 and keeps the
copy for the backward pass. Here the adapter's float32 weights are rounded to the input's type for the product, as
autocast does, and the backward pass remembers the input once and the `rank` numbers per token behind A.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.settings import BaseWeights

STORED: dict[BaseWeights, torch.dtype] = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
LARGEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}


class StoredLinear(nn.Linear):
    """A frozen linear layer whose weight is kept in 8 bits, one scale per output, and computed with as it was.

    Weight-only: half of bfloat16's memory; the product itself runs in the input's type.
    """

    scale: Tensor

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        weight, scale = stored(linear.weight.detach(), dtype)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, input: Tensor) -> Tensor:  # the name is torch's
        """[..., in] -> [..., out]."""
        result: Tensor = _Linear.apply(input, self.weight, self.scale, self.bias, None, None)  # type: ignore[no-untyped-call]
        return result


class AdaptedLinear(PeftLinear):  # type: ignore[misc]  # PEFT is not typed here
    """PEFT's layer at alpha = rank without dropout, computed in one operation."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] -> [..., out]: the frozen layer and, unless it is switched off, the adapter."""
        if self.disable_adapters or self.merged or not self.active_adapters:
            plain: Tensor = self.base_layer(x)
            return plain
        (name,) = self.active_adapters
        assert self.scaling[name] == 1.0
        base = self.base_layer
        scale = base.scale if isinstance(base, StoredLinear) else None
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        adapted: Tensor = _Linear.apply(x, base.weight, scale, base.bias, a, b)  # type: ignore[no-untyped-call]
        return adapted


class _Linear(torch.autograd.Function):
    """x W' + bias + x A' B', with gradients for x, A and B: W and the bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        scale: Tensor | None,
        bias: Tensor | None,
        a: Tensor | None,
        b: Tensor | None,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        result = F.linear(flat, restored(weight, scale, x.dtype), bias)
        small = None
        if a is not None and b is not None:
            ctx.trained = a.dtype
            a, b = a.to(x.dtype), b.to(x.dtype)
            small = flat @ a.T
            result.addmm_(small, b.T)
        ctx.shape = x.shape
        ctx.save_for_backward(flat if small is not None else None, weight, scale, a, b, small)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        flat, weight, scale, a, b, small = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        for_x = for_a = for_b = None
        if ctx.needs_input_grad[0]:
            for_x = gradient @ restored(weight, scale, gradient.dtype)
        if small is not None:
            behind_a = gradient @ b
            for_a, for_b = (behind_a.T @ flat).to(ctx.trained), (gradient.T @ small).to(ctx.trained)
            if for_x is not None:
                for_x.addmm_(behind_a, a)
        return None if for_x is None else for_x.view(ctx.shape), None, None, None, for_a, for_b


def stored(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A weight [out, in] in 8 bits, and the float32 scale [out, 1] that brings it back; rounded to nearest."""
    largest = LARGEST[dtype]
    scale = weight.abs().amax(1, keepdim=True).float().clamp(min=1e-12) / largest
    scaled = (weight.float() / scale).clamp(-largest, largest)
    return (scaled.round() if dtype == torch.int8 else scaled).to(dtype), scale


def restored(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The weight as it is computed with."""
    return weight if scale is None else weight.to(dtype) * scale.to(dtype)


def store_linears(model: nn.Module, kept_as: BaseWeights) -> None:
    """Keep the weights of all linear layers inside the blocks of a model in 8 bits, one layer after the other.

    Those outside (embeddings of time and position, in- and output) are few, and errors in them reach every token.
    """
    if kept_as == "bf16":
        return
    for name, module in list(model.named_modules()):
        for child, linear in list(module.named_children()):
            if type(linear) is nn.Linear and "block" in name and not linear.weight.is_meta:
                setattr(module, child, StoredLinear(linear, STORED[kept_as]))

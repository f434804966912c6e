"""Frozen linear layers, plain, in 8 bits or elsewhere, with an adapter beside them or without: one operation each.

PEFT's own forward computes the adapter in float32: on a bfloat16 base it copies every input to float32 and keeps the
copy for the backward pass. Here the adapter's float32 weights are rounded to the input's type for the product, as
autocast does, and the backward pass remembers the input once and the `rank` numbers per token behind A.
"""

import re
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.nn import functional as F

from models.weights.offload import Offload
from schemas.settings import BaseWeights

STORED: dict[BaseWeights, torch.dtype] = {"fp8": torch.float8_e4m3fn, "int8": torch.int8}
LAYER = re.compile(r"(?:blocks|layers)\.(\d+)\.")  # of diffusers' and transformers' models
LARGEST = {torch.float8_e4m3fn: 448.0, torch.int8: 127.0}


class StoredLinear(nn.Linear):
    """A frozen linear layer whose weight is kept smaller or elsewhere than it is computed with.

    In 8 bits, one scale per output: half of bfloat16's memory. With `visits`, in main memory: none of the device's.
    """

    scale: Tensor | None

    def __init__(self, linear: nn.Linear, dtype: torch.dtype | None, visits: Offload | None = None) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        weight, scale = (linear.weight.detach(), None) if dtype is None else quantize(linear.weight.detach(), dtype)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = linear.bias
        self.visits = visits

    def forward(self, input: Tensor) -> Tensor:  # the name is torch's
        """[..., in] -> [..., out]."""
        frozen = self.weight, self.scale, self.bias, self.visits
        result: Tensor = _Linear.apply(input, *frozen, None, None)  # type: ignore[no-untyped-call]
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
        scale, visits = (base.scale, base.visits) if isinstance(base, StoredLinear) else (None, None)
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        adapted: Tensor = _Linear.apply(x, base.weight, scale, base.bias, visits, a, b)  # type: ignore[no-untyped-call]
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
        visits: Offload | None,
        a: Tensor | None,
        b: Tensor | None,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        result = product(flat, visits.here(weight) if visits else weight, scale, bias)
        small = None
        if a is not None and b is not None:
            ctx.trained = a.dtype
            a, b = a.to(x.dtype), b.to(x.dtype)
            small = flat @ a.T
            result.addmm_(small, b.T)
        ctx.shape, ctx.visits = x.shape, visits
        ctx.save_for_backward(flat if small is not None else None, weight, scale, a, b, small)
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        flat, weight, scale, a, b, small = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        for_x = for_a = for_b = None
        if ctx.needs_input_grad[0]:
            there = ctx.visits.here(weight, back=True) if ctx.visits else weight
            for_x = product_back(gradient, there, scale)
        if small is not None:
            behind_a = gradient @ b
            for_a, for_b = (behind_a.T @ flat).to(ctx.trained), (gradient.T @ small).to(ctx.trained)
            if for_x is not None:
                for_x.addmm_(behind_a, a)
        return None if for_x is None else for_x.view(ctx.shape), None, None, None, None, for_a, for_b


def product(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """[N, in] times a frozen weight [out, in] -> [N, out]; of fp8 numbers where the device multiplies them."""
    if scale is None or not multiplies_fp8(x, weight):
        return F.linear(x, dequantize(weight, scale, x.dtype), bias)
    small, scale_x = quantize(x, weight.dtype)
    result = torch._scaled_mm(small, weight.t(), scale_a=scale_x, scale_b=scale.t(), out_dtype=x.dtype)
    return result if bias is None else result.add_(bias)


def product_back(gradient: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
    """A gradient [N, out] back through a frozen weight [out, in] -> [N, in].

    The weight's scales belong to the axis that is summed over here, so they go into the gradient before it is rounded.
    """
    if scale is None or not multiplies_fp8(gradient, weight):
        return gradient @ dequantize(weight, scale, gradient.dtype)
    small, scale_gradient = quantize(gradient * scale.t().to(gradient.dtype), weight.dtype)
    down = weight.t().contiguous().t()  # the second factor has to lie in columns
    one = scale.new_ones(1, weight.shape[1])
    return torch._scaled_mm(small, down, scale_a=scale_gradient, scale_b=one, out_dtype=gradient.dtype)


def multiplies_fp8(x: Tensor, weight: Tensor) -> bool:
    """Whether x and an fp8 weight can be multiplied as they are: on Ada, Hopper and later, in bfloat16."""
    fits = weight.dtype == torch.float8_e4m3fn and x.dtype == torch.bfloat16 and not any(n % 16 for n in weight.shape)
    return fits and (x.device.type == "cpu" or torch.cuda.get_device_capability(x.device) >= (8, 9))


def quantize(weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows [out, in] in 8 bits, and the float32 scale [out, 1] that brings each back; rounded to nearest."""
    largest = LARGEST[dtype]
    scale = weight.abs().amax(1, keepdim=True).float().clamp(min=1e-12) / largest
    scaled = (weight.float() / scale).clamp(-largest, largest)
    return (scaled.round() if dtype == torch.int8 else scaled).to(dtype), scale


def dequantize(weight: Tensor, scale: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The weight in the dtype that is computed in."""
    return weight if scale is None else weight.to(dtype) * scale.to(dtype)


def store_linears(model: nn.Module, kept_as: BaseWeights, visits: Offload | None = None, visiting: int = 0) -> None:
    """Keep the weights of all linear layers inside the layers of a model in 8 bits, one after the other.

    Layers outside (embeddings of time and position, in- and output) are few, and errors in them reach every token.

    Args:
        visits: of the model's device, for the weights of the first `visiting` layers, which stay where they are.
    """
    dtype = STORED.get(kept_as)
    for name, module in list(model.named_modules()):
        layer = LAYER.search(name)
        visitors = visits if layer and int(layer[1]) < visiting else None
        for child, linear in list(module.named_children()):
            if layer and type(linear) is nn.Linear and not linear.weight.is_meta and (dtype or visitors):
                setattr(module, child, StoredLinear(linear, dtype, visitors))


def visits(model: nn.Module) -> bool:
    """Whether weights of a model stay in main memory."""
    return any(isinstance(module, StoredLinear) and module.visits is not None for module in model.modules())

"""The fastest attention kernel that a device offers."""

from importlib.util import find_spec

import torch
from diffusers import ModelMixin

ADA, HOPPER = (8, 9), (9, 0)


def pick_attention(device: torch.device, deterministic: bool) -> str:
    """The fastest attention here, by diffusers' name: FlashAttention 3, cuDNN's, FlashAttention 2, or torch's choice.

    Where every run must give the same bytes: torch's own, the only one whose backward pass promises that.
    """
    if device.type != "cuda" or deterministic:
        return "native"
    capability = torch.cuda.get_device_capability(device)
    if capability == HOPPER and find_spec("flash_attn_interface"):
        return "_flash_3"
    if capability >= HOPPER and torch.backends.cudnn.is_available():  # type: ignore[no-untyped-call]
        return "_native_cudnn"
    return "flash" if find_spec("flash_attn") else "native"


def use_attention(model: ModelMixin, device: torch.device, deterministic: bool) -> str:
    """Set a model to the attention of `pick_attention`, and return its name; diffusers' default is torch's own."""
    name = pick_attention(device, deterministic)
    if name != "native":
        model.set_attention_backend(name)
    return name

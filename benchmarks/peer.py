"""The same training step as stock diffusers + PEFT would take it: what train_step.py is compared with.

Eager, gradient checkpointing in every block, a time embedding for every token, the whole model in memory. diffusers
cannot run sound alone: an absent stream is one dummy token that the other does not see.
"""

import torch
from peft import LoraConfig
from torch import Tensor, nn

from models.engine.trainer import CLIP_NORM
from models.ltx2.adapter import targets
from models.training_inputs import Streams, training_loss
from schemas.media import Modality

MODALITIES: tuple[tuple[Modality, str, int], ...] = (("video", "", 3), ("audio", "audio_", 1))


class Peer:
    """A stock model with PEFT's adapter and torch's AdamW."""

    def __init__(self, model: nn.Module, rank: int, modalities: tuple[Modality, ...]) -> None:
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=_names(model, modalities))
        model.add_adapter(config)
        model.enable_gradient_checkpointing()
        self.model = model.train()
        self.weights = [weight for name, weight in model.named_parameters() if ".lora_" in name]
        for weight in self.weights:
            weight.data = weight.data.float()
        self.optimizer = torch.optim.AdamW(self.weights, lr=2e-4)

    def step(self, streams: Streams) -> None:
        """Forward, backward, clip, update."""
        loss = torch.stack([each.mean() for each in training_loss(self.predict(streams), streams).values()]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, CLIP_NORM)
        self.optimizer.step()

    def predict(self, streams: Streams) -> dict[Modality, Tensor]:
        """Velocities of all tokens, by the stock forward."""
        arguments: dict[str, object] = {"isolate_modalities": len(streams) == 1, "return_dict": False}
        first = next(iter(streams.values())).input
        device, dtype = first.tokens.latent.device, self.model.proj_in.weight.dtype
        for modality, prefix, axes in MODALITIES:
            width = getattr(self.model.config, f"{prefix}cross_attention_dim")
            values = _inputs(streams, modality) or {
                "hidden_states": torch.zeros(1, 1, 128, device=device),
                "encoder_hidden_states": torch.zeros(1, 1, width, device=device),
                "timestep": torch.zeros(1, 1, device=device),
                "sigma": torch.zeros(1, device=device),
                "coords": torch.zeros(1, axes, 1, 2, device=device),
            }
            arguments[f"{modality}_coords"] = values.pop("coords")
            for name, value in values.items():
                arguments[prefix + name] = value.to(dtype) if "hidden" in name else value
        video, audio = self.model(**arguments)
        return {modality: {"video": video, "audio": audio}[modality].float() for modality in streams}


def _inputs(streams: Streams, modality: Modality) -> dict[str, Tensor] | None:
    if modality not in streams:
        return None
    given = streams[modality].input
    return {
        "hidden_states": given.tokens.latent,
        "encoder_hidden_states": given.context,
        "timestep": given.tokens.sigma * 1000,
        "sigma": given.sigma * 1000,
        "coords": given.tokens.position,
    }


def _names(model: nn.Module, modalities: tuple[Modality, ...]) -> list[str]:
    layers = range(len(model.transformer_blocks))
    return [f"transformer_blocks.{layer}.{target}" for layer in layers for target in targets(modalities)]

"""One modality as the transformer reads it: clean or noisy tokens with their noise levels, positions and loss mask."""

from dataclasses import dataclass

from torch import Tensor

from schemas.media import Modality

Grid = tuple[int, int, int]  # latent steps, rows, columns; sound has one row and one column


@dataclass(frozen=True)
class Tokens:
    """B clips, L tokens, C = 128 channels."""

    latent: Tensor  # [B, L, C]     noisy where generated, clean where given
    sigma: Tensor  # [B, L]        noise level, 0 where given
    position: Tensor  # [B, D, L, 2]  from/to per axis: D = 3 video (s, px, px), 1 audio (s)
    learn: Tensor  # [B, L]        bool, True where the token carries loss


def tokens_of(latent: Tensor) -> Tensor:
    """Video [B, C, F, h, w] -> [B, F h w, C], time-major; sound [B, T, C] is in tokens already."""
    return latent.flatten(2).transpose(1, 2) if latent.ndim == 5 else latent


def latent_of(tokens: Tensor, modality: Modality, grid: Grid) -> Tensor:
    """Tokens -> latents: video [B, F h w, C] -> [B, C, F, h, w]; sound stays [B, T, C]."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *grid) if modality == "video" else tokens


def grid_of(latent: Tensor) -> Grid:
    """Steps, rows and columns of a batch of latents, [B, C, F, h, w] or [B, T, C]."""
    if latent.ndim == 5:
        _, _, steps, height, width = latent.shape
        return steps, height, width
    return latent.shape[1], 1, 1

"""Weight offloading: weights live in main memory and visit the device only while they are computed with.

For a device that cannot hold the base model. While a weight is computed with, the one that followed it last time is
copied, forward and backward each in its own order, so that copying and computing overlap.
"""

from collections import deque

import torch
from torch import Tensor

AHEAD = 2  # weights that the host may queue before the device has computed with them: each takes memory
Place = tuple[int, bool]  # which weight, and whether on the way back


class Offload:
    """The copies of one model's weights to and from one device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self.computed: deque[torch.cuda.Event] = deque()
        self.follows: dict[Place, tuple[Place, Tensor]] = {}
        self.last: Place | None = None
        self.coming: dict[Place, Tensor] = {}

    def here(self, weight: Tensor, *, back: bool = False) -> Tensor:
        """The weight on the device. Its copy is freed once the caller has let it go."""
        place = (weight.data_ptr(), back)
        visitor = self.coming.pop(place, None)
        if visitor is None:
            visitor = self._sent(weight)
        self._arrived(visitor)
        if self.last is not None:
            self.follows[self.last] = place, weight
        self.last = place
        self.coming.clear()  # what was expected and not asked for
        if place in self.follows:
            following, its_weight = self.follows[place]
            self.coming[following] = self._sent(its_weight)
        return visitor

    def _sent(self, weight: Tensor) -> Tensor:
        if self.stream is None:
            return weight.to(self.device)
        self.computed.append(torch.cuda.current_stream(self.device).record_event())
        if len(self.computed) > AHEAD:
            self.computed.popleft().synchronize()
        with torch.cuda.stream(self.stream):
            return weight.to(self.device, non_blocking=True)

    def _arrived(self, visitor: Tensor) -> None:
        """Make the computing stream wait for the copying one, and keep the memory until it has computed with it."""
        if self.stream is not None:
            computing = torch.cuda.current_stream(self.device)
            computing.wait_stream(self.stream)
            visitor.record_stream(computing)


def layers_to_send_away(layers: int, layer_bytes: int, other_bytes: int, free_bytes: int, spare_bytes: int) -> int:
    """Number of layers whose weights stay in main memory: as few as leave `spare_bytes` to the training."""
    room = free_bytes - spare_bytes - other_bytes
    return layers - max(0, min(layers, room // max(1, layer_bytes)))

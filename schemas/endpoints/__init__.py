"""All endpoints, by name. Only flows/ may import this package: nobody else may ask which endpoint it serves."""

from typing import Any

from schemas.endpoint import Endpoint
from schemas.endpoints.a2a import A2A
from schemas.endpoints.audio_extend_prefix import AUDIO_EXTEND_PREFIX
from schemas.endpoints.av2av import AV2AV
from schemas.endpoints.av2av_masked import AV2AV_MASKED
from schemas.endpoints.extend_prefix import EXTEND_PREFIX

ENDPOINTS: dict[str, Endpoint[Any]] = {
    endpoint.name: endpoint for endpoint in (AUDIO_EXTEND_PREFIX, EXTEND_PREFIX, A2A, AV2AV, AV2AV_MASKED)
}

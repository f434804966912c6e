"""One flow per endpoint, so that the UI shows its own form and its own runs."""

from typing import Any

from tasks.bulk_import import in_bulk

with in_bulk():
    from prefect import Flow, flow, runtime

    from flows.pipeline import Outcome, run_endpoint
    from schemas.endpoints import ENDPOINTS
    from schemas.endpoints.a2a import A2A, AudioToAudio
    from schemas.endpoints.audio_extend_prefix import AUDIO_EXTEND_PREFIX, AudioExtendPrefix
    from schemas.endpoints.av2av import AV2AV, VideoToVideo
    from schemas.endpoints.av2av_masked import AV2AV_MASKED, MaskedVideoToVideo
    from schemas.endpoints.extend_prefix import EXTEND_PREFIX, ExtendPrefix


def run_name() -> str:
    """Runs are named after their endpoint and trigger phrase."""
    phrase = runtime.flow_run.parameters["request"].trigger_phrase
    return " ".join(filter(None, (runtime.flow_run.flow_name, phrase)))


@flow(name="audio-extend-prefix", flow_run_name=run_name)
def audio_extend_prefix(request: AudioExtendPrefix) -> Outcome:
    """Train a LoRA that continues a sound forward in time."""
    return run_endpoint(AUDIO_EXTEND_PREFIX, request)


@flow(name="extend-prefix", flow_run_name=run_name)
def extend_prefix(request: ExtendPrefix) -> Outcome:
    """Train a LoRA that continues a video forward in time, optionally with its sound."""
    return run_endpoint(EXTEND_PREFIX, request)


@flow(name="ic-lora-a2a", flow_run_name=run_name)
def a2a(request: AudioToAudio) -> Outcome:
    """Train an in-context LoRA that turns one sound into another."""
    return run_endpoint(A2A, request)


@flow(name="ic-lora-av2av", flow_run_name=run_name)
def av2av(request: VideoToVideo) -> Outcome:
    """Train an in-context LoRA that turns one clip, picture and sound, into another."""
    return run_endpoint(AV2AV, request)


@flow(name="av2av-masked", flow_run_name=run_name)
def av2av_masked(request: MaskedVideoToVideo) -> Outcome:
    """Train a LoRA that regenerates the masked region of a video, and its sound."""
    return run_endpoint(AV2AV_MASKED, request)


FLOWS: dict[str, Flow[..., Any]] = dict(
    zip(ENDPOINTS, (audio_extend_prefix, extend_prefix, a2a, av2av, av2av_masked), strict=True)
)

"""Settings of the installation, from the environment (prefix LTX_FLOWS_). docs/settings.md is made from these."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.errors import SettingsUnreadable
from schemas.setting_faults import unknown, unread
from schemas.setting_values import (
    BaseModelName,
    Buckets,
    Database,
    Device,
    Hosts,
    Keys,
    Origins,
    Place,
    Proxies,
    SecretDatabase,
    Size,
    Url,
    without_control_characters,
)

PREFIX = "LTX_FLOWS_"
OUR_OWN = frozenset({"LTX_FLOWS_BOUND_TO"})  # of our processes among themselves (flows/bound.py): no setting
BaseWeights = Literal["bf16", "fp8", "int8"]
OffloadedBlocks = Annotated[int, Field(ge=0)] | Literal["auto"]
Compile = Literal["auto", "on", "off"]


class Settings(BaseSettings):
    """Where things live and what is allowed on this machine."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    home: Path = Field(Path("~/.ltx-flows"), description="Everything that ltx-flows keeps, unless told otherwise.")
    base_model: BaseModelName = Field(
        "tiny", description="A diffusers-format LTX-2.3 folder or Hub id; `tiny` has random weights."
    )
    store: Place = Field("", description="fsspec URL of the content-addressed store; default HOME/store.")
    outputs: Place = Field("", description="fsspec URL that finished files go to; default HOME/outputs.")
    store_patience_seconds: float = Field(
        300, ge=0, description="How long a remote store or output place that does not answer is asked again."
    )
    link_seconds: int = Field(
        7 * 24 * 3600, ge=60, le=7 * 24 * 3600, description="How long a link to a finished file on S3 works."
    )
    database_url: Database = Field("", description="SQLAlchemy URL of the ledger; default SQLite under HOME.")
    prefect_database_url: SecretDatabase = Field(
        SecretStr(""), description="PostgreSQL URL for the Prefect server that `run` and `serve` start; default SQLite."
    )
    device: Device = Field("auto", description="`auto`, `cuda`, `cuda:1` or `cpu`.")
    devices: int = Field(1, ge=1, description="Devices a training runs on, each with a sample of its own per step.")
    base_weights: BaseWeights = Field(
        "bf16", description="How the frozen base is kept while training; 8 bits halve its memory."
    )
    text_encoder_weights: BaseWeights = Field(
        "bf16", description="How Gemma is kept while prompts are encoded; 8 bits halve its memory."
    )
    offload_blocks: OffloadedBlocks = Field(
        "auto",
        description="Blocks of the base whose weights stay in main memory while training; `auto`: as few as possible.",
    )
    compile: Compile = Field(
        "auto", description="Compile the blocks for training; `auto`: on a GPU, for runs long enough to gain from it."
    )
    deterministic: bool = Field(
        True, description="A resumed run gives the same bytes on a GPU, too; off, the fastest attention is used."
    )
    training_silence_seconds: float = Field(
        1800, gt=0, description="How long a training process may say nothing before it is taken for hung and ended."
    )
    allow_private_hosts: bool = Field(False, description="Allow downloads from loopback and private addresses.")
    allow_file_root: Path | None = Field(None, description="Allow file:// and plain paths below this folder.")
    max_download_bytes: Size = Field(50 * 2**30, description="Largest file that is downloaded.")
    max_archive_bytes: Size = Field(50 * 2**30, description="Largest unpacked archive.")
    max_archive_entries: int = Field(20_000, ge=1, description="Most files in an archive.")
    max_entry_bytes: Size = Field(10 * 2**30, description="Largest unpacked file in an archive.")
    api_keys: Keys = Field(
        SecretStr(""), description="Keys that open the HTTP API, separated by commas; none: everybody who reaches it."
    )
    api_buckets: Buckets = Field(
        "", description="s3:// prefixes that requests of the HTTP API may read from, separated by commas; default none."
    )
    upload_quota_bytes: Size = Field(200 * 2**30, description="Most that one API key may keep uploaded.")
    public_url: Url = Field(
        "", description="Where clients reach the HTTP API, if that is a reverse proxy: https://ltx.example.org."
    )
    allowed_hosts: Hosts = Field(
        "", description="More names that the HTTP API is served under, separated by commas; else the machine's own."
    )
    allowed_origins: Origins = Field(
        "", description="Origins of pages elsewhere that may use the HTTP API: https://studio.example.org, by commas."
    )
    trusted_proxies: Proxies = Field(
        "", description="Addresses of reverse proxies whose X-Forwarded headers are believed, separated by commas."
    )
    max_body_bytes: Size = Field(
        64 * 2**20, description="Largest body of an API request; uploads have their own limit."
    )
    submissions_per_minute: int = Field(120, ge=1, description="Most requests that one API key may submit in a minute.")
    progress_bars: bool = Field(False, description="Draw progress bars on stderr; the command line turns them on.")
    media_workers: int = Field(2, ge=1, description="Clips that are probed and verified at the same time.")

    @field_validator("*", mode="before")
    @classmethod
    def _printable(cls, value: Any) -> Any:
        return without_control_characters(value)

    @property
    def home_folder(self) -> Path:
        return self.home.expanduser().absolute()

    @property
    def store_url(self) -> str:
        return self.store or str(self.home_folder / "store")

    @property
    def outputs_url(self) -> str:
        return self.outputs or str(self.home_folder / "outputs")

    @property
    def ledger_url(self) -> str:
        return self.database_url or f"sqlite:///{self.home_folder / 'ledger.db'}"


NAMES = frozenset(f"{PREFIX}{field.upper()}" for field in Settings.model_fields)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once; `settings.cache_clear()` reads them again.

    Raises:
        SettingsUnreadable: a variable has a value that is none, or a name that is none of ours.
    """
    faults = unknown(os.environ, PREFIX, NAMES, OUR_OWN)
    try:
        found = Settings()
    except ValidationError as error:
        faults |= unread(error, PREFIX, Settings.model_fields)
    if faults:  # not in the `except`: a traceback that shows both would quote secret values
        raise SettingsUnreadable(faults)
    return found

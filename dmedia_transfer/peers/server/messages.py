"""What the daemon and its server for peers say to each other: one JSON object a line, over the server's stdin and
stdout. The first line to the server is `Setup`; its first line is `Listening` or `Failed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, field_serializer


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DatabaseAt(_Message):
    """The database with the file documents. Only ever in the pipe: it has a password."""

    url: str
    user: str = ""
    password: SecretStr = SecretStr("")
    ca_file: Path | None = None
    name: str

    @field_serializer("password", when_used="json")
    def _said(self, password: SecretStr) -> str:
        return password.get_secret_value()


class Trusted(_Message):
    """Who is let in from now on: certificates (DER in base64) by machine. Said again when our own key changed."""

    kind: Literal["trusted"] = "trusted"
    machines: dict[str, list[str]]


class Limits(_Message):
    """How fast, from now on; None is no limit."""

    kind: Literal["limits"] = "limits"
    send_bps: float | None = None  # bytes per second
    receive_bps: float | None = None
    stopped: bool = False  # no transfers at all


class Confirm(_Message):
    """The daemon has taken note of what `Stored` said."""

    kind: Literal["confirm"] = "confirm"
    upload_id: str


class Setup(_Message):
    """All that the server needs to begin."""

    state_dir: Path
    host: str
    port: int
    floor_bytes: int
    floor_percent: float
    stall_s: float
    expire_s: float  # after which an upload that nobody goes on with is removed
    log_level: str
    database: DatabaseAt
    trusted: Trusted
    limits: Limits


class Listening(_Message):
    """It can be reached."""

    kind: Literal["listening"] = "listening"
    port: int


class Failed(_Message):
    """It cannot begin."""

    kind: Literal["failed"] = "failed"
    problem: str


class Stored(_Message):
    """A peer has sent a file, and it is published. Said again until it is confirmed."""

    kind: Literal["stored"] = "stored"
    upload_id: str
    file_id: str
    store_id: str
    machine_id: str  # who sent it
    size: int


class Moved(_Message):
    """Bytes of files that moved since the last one. Once a second, while any do."""

    kind: Literal["moved"] = "moved"
    sent_bytes: int
    received_bytes: int
    machines: dict[str, int]  # connections of each machine


Order = Annotated[Trusted | Limits | Confirm, Field(discriminator="kind")]
Event = Annotated[Listening | Failed | Stored | Moved, Field(discriminator="kind")]

orders: TypeAdapter[Trusted | Limits | Confirm] = TypeAdapter(Order)
events: TypeAdapter[Listening | Failed | Stored | Moved] = TypeAdapter(Event)

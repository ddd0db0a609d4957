"""`stores login` and `stores logout`: an access key for a store, kept in the desktop's keyring."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from dmedia_transfer.cli import places
from dmedia_transfer.cli.options import command, json_option, with_device
from dmedia_transfer.cli.output import Output, note
from dmedia_transfer.errors import CredentialsExpired, InvalidRequest, Permanent

if TYPE_CHECKING:
    from dmedia_transfer.cli.device import Device
    from dmedia_transfer.secretservice import AccessKey

ALTERNATIVES = (
    "Without one, put the key where boto3 finds it (~/.aws/credentials), name a profile of it with --profile, or give "
    "the unit `LoadCredential=s3-{}:FILE`"
)


@command("login", "Enter the access key of a store.")
@click.argument("store")
@click.option("--profile", default="", metavar="NAME", help="Use this profile of ~/.aws instead of an access key.")
@json_option()
@with_device
def login_command(device: Device, *, store: str, profile: str, as_json: bool) -> int:
    """Enter the access key of STORE, without echo, and keep it in the desktop's keyring (Secret Service).

    It is tried at once. It is for this store on this machine as it is now: if its endpoint or bucket changes, the key
    stays where it is. From a pipe, the access key and the secret key are read as two lines.

    \b
    Examples:
      dmedia-transfer stores login my-bucket
      dmedia-transfer stores login nas --profile films
    """
    from dmedia_transfer import coredumps

    coredumps.forbid()
    with device.database() as database:
        raw = device.store(database, store)
    if raw.get("plugin") != "s3":
        raise InvalidRequest(f"store {places.called(raw)} is no S3 store; only those have an access key")
    device.bindings.check_enabled(raw)
    if profile:
        with places.bucket_of(device, raw, login=f"profile:{profile}") as backend:
            backend.reach()
    else:
        _keep(device, raw, _asked(raw))
    device.bindings.log_in(raw, profile=profile)
    where = f"profile {profile}" if profile else "the keyring"
    output = Output(as_json=as_json)
    output.value({"store_id": raw["_id"], "login": "profile" if profile else "keyring"})
    output.line(f"the access key works, and is in {where}: store {places.called(raw)}, {places.where(raw)}")
    return 0


@command("logout", "Forget the access key of a store.")
@click.argument("store")
@json_option()
@with_device
def logout_command(device: Device, *, store: str, as_json: bool) -> int:
    """Forget the access key of STORE on this machine; from then on boto3's own places are asked."""
    from dmedia_transfer import secretservice

    with device.database() as database:
        raw = device.store(database, store)
    changed = device.bindings.log_out(raw["_id"])
    try:
        changed |= secretservice.remove(raw["_id"])
    except CredentialsExpired as problem:
        note(str(problem))
    output = Output(as_json=as_json)
    output.value({"store_id": raw["_id"], "login": None, "changed": changed})
    output.line(f"store {places.called(raw)}: {'logged out' if changed else 'nobody was logged in'}")
    return 0


def _asked(raw: Mapping[str, Any]) -> AccessKey:
    from dmedia_transfer.secretservice import AccessKey

    if sys.stdin.isatty():
        access_key = click.prompt(f"Access key for {places.called(raw)}", hide_input=True, err=True)
        secret_key = click.prompt("Secret key", hide_input=True, err=True)
    else:
        access_key, secret_key = sys.stdin.readline(), sys.stdin.readline()
    key = AccessKey(access_key.strip(), secret_key.strip())
    if not key.access_key or not key.secret_key:
        raise InvalidRequest("an access key and a secret key are needed: two lines")
    return key


def _keep(device: Device, raw: Mapping[str, Any], key: AccessKey) -> None:
    """Try the key, and keep it if it works."""
    from dmedia_transfer import credentials, secretservice

    with places.bucket_of(device, raw, sessions=credentials.given(key)) as backend:
        backend.reach()
    place = secretservice.Place.of(raw["_id"], raw)
    try:
        secretservice.save(place, key)
    except CredentialsExpired as problem:
        raise Permanent(f"the access key works, but {problem}. {ALTERNATIVES.format(raw['_id'])}") from None

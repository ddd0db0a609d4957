"""Files to and from a bucket with AWS' C runtime, through the transfer manager that aws-cli v2 has for it.

    python crt_files.py URL BUCKET up|down FOLDER AT_ONCE KEY...

aws-cli itself is not on PyPI in its version 2, Debian 12's ignores the port of an endpoint when it uses the runtime,
and boto3's own switch to it ignores the endpoint altogether. All keys are handed over at once: the runtime decides how
many it moves at a time.
"""

from __future__ import annotations

import sys

import botocore.session
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper,
    BotocoreCRTRequestSerializer,
    CRTTransferManager,
    create_s3_crt_client,
)

REGION = "us-east-1"
TARGET_BPS = 10e9  # bytes per second; much, so that it does not hold back


def main(url: str, bucket: str, direction: str, folder: str, _at_once: str, *keys: str) -> None:
    """Do it."""
    session = botocore.session.get_session()
    session.set_credentials("benchmark", "benchmark-secret")
    credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    client = create_s3_crt_client(
        region=REGION, crt_credentials_provider=credentials, use_ssl=False, target_throughput=TARGET_BPS
    )
    serializer = BotocoreCRTRequestSerializer(session, {"region_name": REGION, "endpoint_url": url})
    with CRTTransferManager(client, serializer) as manager:
        if direction == "up":
            under_way = [manager.upload(f"{folder}/{key}", bucket, key) for key in keys]
        else:
            under_way = [manager.download(bucket, key, f"{folder}/{key}") for key in keys]
        for each in under_way:
            each.result()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""An object store that speaks S3, on loopback: moto's server mode.

In: nothing. Out: its address, the environment that clients need, and a bucket made in it; all of it in memory, gone when the tests end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
from moto.server import ThreadedMotoServer

ACCESS_KEY, SECRET_KEY = "volcast-test-access", "S3-s3cret-of-the-tests"


@dataclass(frozen=True)
class ObjectStore:
    """An S3 endpoint with one bucket."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """What clients of S3 read; ``AWS_ENDPOINT_URL`` is honoured by botocore, and so by s3fs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def running(bucket: str = "volcast-tests") -> Iterator[ObjectStore]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = ObjectStore(f"http://{host}:{port}", bucket)
        client = boto3.client(
            "s3",
            endpoint_url=store.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=bucket)
        yield store
    finally:
        server.stop()

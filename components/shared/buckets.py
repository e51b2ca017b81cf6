"""The store in a bucket (`s3://bucket/prefix`): MinIO, SeaweedFS, AWS and what else speaks S3.

Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from the file AWS_SHARED_CREDENTIALS_FILE or from
the pod's role, never from the URI; the server from AWS_ENDPOINT_URL (https://s3.amazonaws.com when unset). Small images
travel in shards: 2 to 4 times as fast to write and 10 times as fast to read as one by one (6,400 of 30 KB, SeaweedFS).
"""

import base64
import functools
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlparse

import urllib3
from minio import Minio
from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider, Provider
from minio.error import InvalidResponseError, S3Error

from components.shared.errors import InvalidInput, ServiceFault
from components.shared.shards import WORTH, Shards, is_small, read_span, spans, write_shards

CONNECTIONS = 32
WRITERS = 16
ATTEMPTS = 5
PART_BYTES = 16 * 2**20
"""Larger objects travel in parts, which become visible together."""
PROBE = ".create-only"
OURS = {
    "NoSuchBucket",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidBucketName",
    "AllAccessDisabled",
}
"""Refusals that no retry cures."""
Answer = TypeVar("Answer")


def bucket_client() -> Minio:
    """A client for the server that the environment names, with retries and a pool of connections.

    Raises:
        InvalidInput: the server's address cannot be used.
    """
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "https://s3.amazonaws.com"
    parts = urlparse(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise InvalidInput("AWS_ENDPOINT_URL: expected http(s)://host[:port] without credentials")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return Minio(
        parts.netloc, credentials=_credentials(), secure=parts.scheme == "https", region=region, http_client=_pool()
    )


def _credentials() -> Provider:
    providers: list[Provider] = [EnvAWSProvider(), AWSConfigProvider()]
    if {"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} & os.environ.keys():
        providers.append(IamAwsProvider())
    return ChainedProvider(providers)


@functools.cache
def _pool() -> urllib3.PoolManager:
    retries = urllib3.Retry(
        total=ATTEMPTS, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504], allowed_methods=None
    )
    timeout = urllib3.Timeout(connect=5, read=60)
    certificates = os.environ.get("AWS_CA_BUNDLE")
    return urllib3.PoolManager(maxsize=CONNECTIONS, retries=retries, timeout=timeout, ca_certs=certificates)


def _over_connections(work: Callable[[str], Answer], names: Iterable[str]) -> Sequence[Answer]:
    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(work, names))


class BucketStore:
    """A store in a bucket; objects appear whole or not at all, as S3 promises."""

    def __init__(self, uri: str) -> None:
        """Open the bucket and probe that it keeps its word about create-only writes.

        Raises:
            InvalidInput: the URI carries credentials, the bucket is missing or refuses us.
            ServiceFault: the server cannot be reached, or overwrites what must be written once.
        """
        parts = urlparse(uri)
        if parts.username or parts.password or "@" in parts.netloc or parts.query:
            raise InvalidInput("store URI with credentials or a query in it: expected plain s3://bucket/prefix")
        if not parts.netloc:
            raise InvalidInput(f"store URI {uri!r}: no bucket, expected s3://bucket/prefix")
        self.bucket, self._top = parts.netloc, parts.path.strip("/")
        self.uri = f"s3://{self.bucket}" + (f"/{self._top}" if self._top else "")
        self._client = bucket_client()
        self._shards = Shards(self, _over_connections)
        if self.put_new(PROBE, b"probe") and self.put_new(PROBE, b"probe"):
            raise ServiceFault(f"{self.uri}: the server ignores If-None-Match and overwrites what is written once")

    def get(self, name: str) -> bytes:
        """Bytes of `name`.

        Raises:
            InvalidInput: there is no such name.
        """
        if place := self._shards.find([name]).get(name):
            return self.read(place.shard, place.offset, place.size)
        try:
            return self.read(name)
        except InvalidInput:
            if self._shards.look_again() and (place := self._shards.find([name]).get(name)):
                return self.read(place.shard, place.offset, place.size)
            raise

    def get_all(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Names and bytes of many objects, in the order in which they are quickest read."""
        wanted = list(names)
        places = self._shards.find(wanted)
        if len(places) < len(wanted) and self._shards.look_again():
            places = self._shards.find(wanted)
        alone = [name for name in wanted if name not in places]
        with ThreadPoolExecutor(WRITERS) as pool:
            together = iter(spans(places))
            while some := list(islice(together, 2 * WRITERS)):
                yield from chain.from_iterable(pool.map(functools.partial(read_span, self), some))
            for start in range(0, len(alone), 16 * WRITERS):
                part = alone[start : start + 16 * WRITERS]
                yield from zip(part, pool.map(self.get, part), strict=True)

    def read(self, name: str, offset: int = 0, length: int = 0) -> bytes:
        """Bytes of an object of the bucket, or `length` of them from `offset`."""

        def read() -> bytes:
            response = self._client.get_object(self.bucket, self._key(name), offset=offset, length=length)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

        return self._ask(name, read)

    def put(self, name: str, data: bytes) -> None:
        """Write `name` whole; an existing object is replaced in one step."""
        self._ask(name, lambda: self._put(name, BytesIO(data), len(data)))

    def put_new(self, name: str, data: bytes) -> bool:
        """Write `name` only if nobody has: False says that somebody was first."""
        return self._ask(name, lambda: self._put_once(name, data))

    def put_new_all(self, objects: Mapping[str, bytes]) -> None:
        """`put_new` for many, over several connections; small images travel together in a shard."""
        small = {name: data for name, data in objects.items() if is_small(name, data)}
        if len(small) >= WORTH:
            write_shards(self, small)
            objects = {name: data for name, data in objects.items() if name not in small}
        _over_connections(lambda name: self.put_new(name, objects[name]), objects)

    def exists(self, name: str) -> bool:
        """Whether there is such a name."""
        if self._shards.find([name]):
            return True

        def look() -> bool:
            try:
                self._client.stat_object(bucket_name=self.bucket, object_name=self._key(name))
                return True
            except S3Error as refusal:
                if refusal.code in ("NoSuchKey", "NoSuchObject", "NotFound"):
                    return False
                raise

        return self._ask(name, look)

    def list(self, prefix: str) -> Iterator[str]:
        """Names that begin with the folder `prefix`, in order."""
        folder = f"{self._key(prefix)}/" if prefix else (f"{self._top}/" if self._top else "")
        skip = len(self._top) + 1 if self._top else 0

        def names() -> list[str]:
            found = self._client.list_objects(bucket_name=self.bucket, prefix=folder, recursive=True)
            return sorted(str(one.object_name)[skip:] for one in found)

        return (name for name in self._ask(prefix, names) if name != PROBE)

    def fetch(self, name: str, path: Path) -> None:
        """Copy `name` to a local file, whole or not at all; what a killed copy left is carried on."""
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = self._ask(name, lambda: self._client.stat_object(bucket_name=self.bucket, object_name=self._key(name)))
        beside = path.with_name(
            f".fetching-{hashlib.sha256(f'{self.uri}/{name}{facts.etag}'.encode()).hexdigest()[:16]}"
        )
        self._ask(name, lambda: self._continue(name, beside, int(facts.size or 0)))
        mine = path.with_name(f".writing-{secrets.token_hex(8)}")
        beside.rename(mine)
        mine.replace(path)

    def send(self, path: Path, name: str) -> None:
        """Copy a local file to `name`."""

        def write() -> None:
            with path.open("rb") as file:
                self._put(name, file, path.stat().st_size)

        self._ask(name, write)

    def _continue(self, name: str, beside: Path, size: int) -> None:
        have = beside.stat().st_size if beside.exists() else 0
        if have < size:
            response = self._client.get_object(
                bucket_name=self.bucket, object_name=self._key(name), offset=have, length=size - have
            )
            try:
                with beside.open("ab") as file:
                    for block in response.stream(2**20):
                        file.write(block)
            finally:
                response.close()
                response.release_conn()
        beside.touch()
        if beside.stat().st_size != size:
            beside.unlink()
            raise urllib3.exceptions.ProtocolError(f"{size} bytes expected")

    def _put(self, name: str, stream: BinaryIO, size: int) -> None:
        self._client.put_object(
            bucket_name=self.bucket, object_name=self._key(name), data=stream, length=size, part_size=PART_BYTES
        )

    def _put_once(self, name: str, data: bytes) -> bool:
        """The client has no conditional write, so the request is signed as a URL and sent with the header.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        place = {"bucket_name": self.bucket, "object_name": self._key(name)}
        url = self._client.presigned_put_object(**place, expires=timedelta(minutes=10))
        checksum = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        headers = {"If-None-Match": "*", "Content-MD5": checksum}
        answer = _pool().request("PUT", url, body=data, headers=headers, retries=False)
        if answer.status in (200, 412):
            return answer.status == 200
        refused = answer.status in (401, 403, 404)
        kind = InvalidInput if refused else urllib3.exceptions.ProtocolError
        raise kind(f"{self.uri}/{name}: the server answered {answer.status} to a create-only write")

    def _ask(self, name: str, question: Callable[[], Answer]) -> Answer:
        """Ask the server, again with back-off while it fails; the client itself retries answers of 500 and above."""
        for attempt in range(ATTEMPTS):
            try:
                return question()
            except S3Error as refusal:
                raise self._told(name, refusal) from refusal
            except (urllib3.exceptions.HTTPError, InvalidResponseError, OSError) as fault:
                last = fault
                time.sleep(0.2 * 2**attempt * (attempt + 1 < ATTEMPTS))
        raise ServiceFault(f"{self.uri}/{name}: {type(last).__name__} after {ATTEMPTS} attempts") from last

    def _told(self, name: str, refusal: S3Error) -> Exception:
        if refusal.code in ("NoSuchKey", "NoSuchObject"):
            return InvalidInput(f"{self.uri}: no object named {name!r}")
        kind = InvalidInput if refusal.code in OURS else ServiceFault
        return kind(f"{self.uri}/{name}: the server refused ({refusal.code})")

    def _key(self, name: str) -> str:
        if ".." in name.split("/") or name.startswith("/"):
            raise InvalidInput(f"{self.uri}: {name!r} is no object name")
        return f"{self._top}/{name}" if self._top else name

"""Exports in a bucket (`s3://bucket/prefix`), read object by object as they are needed."""

import hashlib
import tempfile
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO, TypeVar

import urllib3
from minio.error import S3Error

from components.intake.archives import ZipExport, is_hidden
from components.shared.buckets import bucket_client
from components.shared.errors import InvalidInput, ServiceFault
from components.shared.store import Store

ATTEMPTS = 4
BLOCK_BYTES = 2**20
Answer = TypeVar("Answer")


class ObjectsExport:
    """A batch under a prefix of a bucket."""

    def __init__(self, bucket: "Bucket", name: str, keys: dict[str, str]) -> None:
        """`keys` holds the object of each file by its name in the export."""
        self.name, self.where, self._bucket, self._keys = name, f"{bucket.uri}", bucket, dict(sorted(keys.items()))

    def names(self) -> list[str]:
        """Names of all files, in order."""
        return list(self._keys)

    def size(self, name: str) -> int:
        """Bytes of one file, counted."""
        return self._bucket.sizes[self._keys[name]]

    def head(self, name: str, count: int) -> bytes:
        """The first `count` bytes of one file."""
        return self._bucket.read(self._keys[name], min(count, self.size(name)))

    def open(self, name: str) -> BinaryIO:
        """One file as a stream, from a copy on this machine."""
        return self._bucket.copy(self._keys[name])[0]

    def read(self, name: str) -> bytes:
        """Bytes of one file."""
        return self._bucket.read(self._keys[name], self.size(name))

    def digest(self, name: str) -> str:
        """SHA-256 of one file's bytes."""
        file, digest = self._bucket.copy(self._keys[name])
        file.close()
        return digest

    def prints(self, store: Store) -> dict[str, str]:
        """What tells every file's content from any other, by name: the server's entity tag and the size."""
        return {name: f"etag:{self._bucket.tags[key]}:{self._bucket.sizes[key]}" for name, key in self._keys.items()}


class Bucket:
    """What lies under the prefix of an inbox, listed once."""

    def __init__(self, uri: str) -> None:
        """List the prefix.

        Raises:
            InvalidInput: the bucket is missing or refuses us.
            ServiceFault: the server fails.
        """
        self.uri = uri.rstrip("/")
        self._name, _, self._prefix = self.uri.removeprefix("s3://").partition("/")
        self._client = bucket_client()
        listing = self._ask(lambda: list(self._client.list_objects(self._name, prefix=self._prefix, recursive=True)))
        under = f"{self._prefix}/" if self._prefix else ""
        own = [one for one in listing if one.object_name == self._prefix or str(one.object_name).startswith(under)]
        self.sizes = {str(one.object_name): int(one.size or 0) for one in own if not one.is_dir}
        self.tags = {str(one.object_name): str(one.etag) for one in own}
        self.keys = {key[len(under) :]: key for key in self.sizes if not is_hidden(key[len(under) :])}

    def read(self, key: str, count: int) -> bytes:
        """The first `count` bytes of an object."""
        if not count:
            return b""

        def read() -> bytes:
            response = self._client.get_object(self._name, key, length=count)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

        return self._ask(read)

    def copy(self, key: str) -> tuple[BinaryIO, str]:
        """An object as a file without a name on this machine, and the SHA-256 of its bytes."""

        def copy() -> tuple[BinaryIO, str]:
            file, digest = tempfile.TemporaryFile(), hashlib.sha256()  # noqa: SIM115  # handed to the caller
            response = self._client.get_object(self._name, key)
            try:
                for block in response.stream(BLOCK_BYTES):
                    file.write(block)
                    digest.update(block)
            finally:
                response.close()
                response.release_conn()
            file.seek(0)
            return file, digest.hexdigest()

        return self._ask(copy) if self.sizes[key] else (BytesIO(), hashlib.sha256().hexdigest())

    def zip_export(self, key: str, name: str) -> ZipExport:
        """An object that is a zip file, copied to this machine."""
        return ZipExport(*self.copy(key), name, f"s3://{self._name}/{key}")

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        for attempt in range(ATTEMPTS):
            try:
                return question()
            except S3Error as refusal:
                raise InvalidInput(f"inbox {self.uri}: the server refused ({refusal.code})") from refusal
            except (urllib3.exceptions.HTTPError, OSError) as fault:
                if attempt + 1 == ATTEMPTS:
                    raise ServiceFault(f"inbox {self.uri}: {type(fault).__name__}, {ATTEMPTS} attempts") from fault
        raise AssertionError

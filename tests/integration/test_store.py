"""One suite for both stores: a folder, and a bucket of a real SeaweedFS."""

import os
import resource
import tarfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from components.shared import shards
from components.shared.buckets import BucketStore
from components.shared.dataset import object_name
from components.shared.digests import digest_bytes
from components.shared.errors import InvalidInput, ServiceFault
from components.shared.shards import ENTRY, FOLDER, SHARD_BYTES, SMALL_BYTES
from components.shared.store import Store, open_store
from tests.servers import BUCKET, object_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with object_server(tmp_path_factory.mktemp("weed")) as environment:
        yield environment


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "file":
        return open_store((tmp_path / "a store").as_uri())
    for key, value in request.getfixturevalue("server").items():
        monkeypatch.setenv(key, value)
    return open_store(f"s3://{BUCKET}/{request.node.name[:20].strip('[]')}/{os.getpid()}")


@pytest.fixture
def bucket(server: dict, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    for key, value in server.items():
        monkeypatch.setenv(key, value)
    return open_store(f"s3://{BUCKET}/{request.node.name[5:45]}/{os.getpid()}")


def test_what_is_put_is_got(store: Store) -> None:
    store.put("runs/a/record.json", b"first")
    store.put("runs/a/record.json", b"second")
    assert store.get("runs/a/record.json") == b"second"
    assert store.exists("runs/a/record.json") and not store.exists("runs/a") and not store.exists("runs/b")


def test_a_name_is_created_only_once(store: Store) -> None:
    assert store.put_new("ledger/1.json", b"mine")
    assert not store.put_new("ledger/1.json", b"yours")
    assert store.get("ledger/1.json") == b"mine"


def test_of_many_who_create_one_name_exactly_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda who: store.put_new("heads/1.json", f"{who}".encode()), range(16)))
    assert won.count(True) == 1
    assert store.get("heads/1.json") == f"{won.index(True)}".encode()


def test_listing_is_in_order_and_below_the_folder_only(store: Store) -> None:
    names = ["objects/ab/2", "objects/ab-1", "objects/ab/1", "objectsx/1", "objects/b"]
    for name in names:
        store.put(name, b"")
    assert list(store.list("objects")) == sorted(names[:3] + names[4:])
    assert list(store.list("objects/ab")) == ["objects/ab/1", "objects/ab/2"]
    assert list(store.list("nothing")) == []
    assert sorted(store.list("")) == sorted(names)


def test_files_are_sent_and_fetched_whole(store: Store, tmp_path: Path) -> None:
    data = os.urandom(3 * 2**20)
    (tmp_path / "in.bin").write_bytes(data)
    store.send(tmp_path / "in.bin", "runs/x/out.bin")
    store.fetch("runs/x/out.bin", tmp_path / "new" / "copy.bin")
    assert (tmp_path / "new" / "copy.bin").read_bytes() == data
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy.bin"]
    store.put("empty", b"")
    store.fetch("empty", tmp_path / "new" / "empty")
    assert (tmp_path / "new" / "empty").read_bytes() == b""


def test_many_objects_at_once(store: Store) -> None:
    contents = {f"objects/{at:02x}/{at}": os.urandom(2000) for at in range(200)}
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda item: store.put_new(*item), contents.items()))
        assert dict(zip(contents, pool.map(store.get, contents), strict=True)) == contents


def images(count: int, size: int = 3000) -> dict[str, bytes]:
    return {object_name(digest_bytes(data)): data for data in (os.urandom(size) for _ in range(count))}


def test_small_images_and_large_ones_are_found_by_name_wherever_they_lie(store: Store) -> None:
    small, large = images(200), images(2, SMALL_BYTES + 1)
    store.put_new_all(small | large)
    assert dict(store.get_all(small | large)) == small | large
    for reader in (store, open_store(store.uri)):
        assert all(reader.get(name) == data and reader.exists(name) for name, data in (small | large).items())
    with pytest.raises(InvalidInput, match="no object named 'objects/00/0000"):
        list(store.get_all([*small, object_name("0" * 64)]))


def test_small_images_travel_together_to_a_bucket(bucket: Store) -> None:
    early = open_store(bucket.uri)
    written = images(300, SHARD_BYTES // 200)
    bucket.put_new_all(written)
    assert list(bucket.list("objects")) == []
    assert len(list(bucket.list(FOLDER))) == 2 * 2  # two tars of at most SHARD_BYTES and an index each
    assert dict(early.get_all(written)) == written, "a reader that looked before finds what came later"
    bucket.put_new_all(written)
    assert len(list(bucket.list(FOLDER))) == 4
    [name, *_] = sorted(name for name in bucket.list(FOLDER) if name.endswith(".tar"))
    with tarfile.open(fileobj=BytesIO(bucket.get(name))) as tar:
        assert all(tar.extractfile(one).read() == written[one.name] for one in tar)  # any tar reader gets them back


def test_a_shard_whose_writer_was_killed_is_invisible_and_written_again(
    bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, real = images(20), BucketStore.put_new

    def die(self: BucketStore, name: str, data: bytes) -> bool:
        if name.endswith(".index"):
            raise KeyboardInterrupt
        return real(self, name, data)

    monkeypatch.setattr(BucketStore, "put_new", die)
    with pytest.raises(KeyboardInterrupt):
        bucket.put_new_all(written)
    assert not any(bucket.exists(name) for name in written)
    monkeypatch.setattr(BucketStore, "put_new", real)
    bucket.put_new_all(written)
    assert dict(open_store(bucket.uri).get_all(written)) == written


def test_many_indexes_become_one_and_a_damaged_one_is_named(bucket: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MERGED_FROM", 3)
    parts = [images(16) for _ in range(7)]
    for part in parts[:3]:
        bucket.put_new_all(part)
    everything = {name: data for part in parts for name, data in part.items()}
    assert len(dict(open_store(bucket.uri).get_all(parts[0]))) == 16
    [merged] = [name for name in bucket.list(FOLDER) if name.endswith(".merged")]
    for part in parts[3:]:
        bucket.put_new_all(part)
    assert dict(open_store(bucket.uri).get_all(everything)) == everything
    sizes = [len(bucket.get(name)) // ENTRY.itemsize for name in bucket.list(FOLDER) if name.endswith(".merged")]
    assert sorted(sizes) == [3 * 16, 4 * 16], "each index is merged once"
    bucket.put(merged, bucket.get(merged)[:-1])
    with pytest.raises(InvalidInput, match=r"merged: damaged index"):
        open_store(bucket.uri).get(next(iter(everything)))


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/passwd"])
def test_a_name_never_leaves_the_store(store: Store, name: str) -> None:
    for ask in (store.get, store.exists, lambda one: store.put(one, b""), lambda one: store.put_new(one, b"")):
        with pytest.raises(InvalidInput, match="no object name"):
            ask(name)


def test_a_missing_name_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no object named 'gone'"):
        store.get("gone")
    with pytest.raises(InvalidInput, match="no object named 'gone'"):
        store.fetch("gone", tmp_path / "gone")


def test_a_killed_fetch_is_carried_on(server: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in server.items():
        monkeypatch.setenv(key, value)
    store = open_store(f"s3://{BUCKET}/resume")
    data = os.urandom(5 * 2**20)
    store.put("big", data)

    import urllib3

    whole = urllib3.HTTPResponse.stream

    def cut(self, amount=2**16, decode_content=None):
        for at, block in enumerate(whole(self, amount, decode_content)):
            if at == 2:
                raise KeyboardInterrupt
            yield block

    monkeypatch.setattr(urllib3.HTTPResponse, "stream", cut)
    with pytest.raises(KeyboardInterrupt):
        store.fetch("big", tmp_path / "big")
    assert not (tmp_path / "big").exists()
    left = [path for path in tmp_path.iterdir() if path.name.startswith(".fetching-")]
    assert len(left) == 1 and 0 < left[0].stat().st_size < len(data)
    monkeypatch.setattr(urllib3.HTTPResponse, "stream", whole)
    store.fetch("big", tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == data and not left[0].exists()


def test_refusals_of_a_bucket_name_the_cause_and_no_secret(server: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in server.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InvalidInput, match=r"404|NoSuchBucket"):
        open_store("s3://no-such-bucket/x")
    with pytest.raises(InvalidInput, match="credentials") as told:
        open_store(f"s3://key:topsecret@{BUCKET}/x")
    assert "topsecret" not in str(told.value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-9")
    with pytest.raises(InvalidInput, match="403") as told:
        open_store(f"s3://{BUCKET}/x")
    assert "wrong-secret-9" not in str(told.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceFault, match="after 5 attempts"):
        open_store(f"s3://{BUCKET}/x")


def test_credentials_may_come_from_a_file(server: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = (
        f"aws_access_key_id = {server['AWS_ACCESS_KEY_ID']}\naws_secret_access_key = {server['AWS_SECRET_ACCESS_KEY']}"
    )
    (tmp_path / "credentials").write_text(f"[default]\n{keys}\n")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server["AWS_ENDPOINT_URL"])
    store = open_store(f"s3://{BUCKET}/from-file")
    store.put("a", b"b")
    assert store.get("a") == b"b" and "secret" not in store.uri


def test_a_full_disk_is_told_and_no_half_is_left(tmp_path: Path) -> None:
    store = open_store((tmp_path / "store").as_uri())
    fits, rest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, rest))  # the kernel's own refusal, without a disk to fill
    try:
        for put in (lambda: store.put("a", bytes(6000)), lambda: store.put_new_all(images(20) | images(1, 6000))):
            with pytest.raises((InvalidInput, ServiceFault), match="cannot write"):
                put()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fits, rest))
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []

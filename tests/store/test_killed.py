"""A pull that is killed again and again, at whatever moment, ends with the model all the same."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from service.catalog import names
from service.catalog.manifest import Layer
from service.store.own_store import OwnStore
from tests.registry import PROGRAM, registry
from tests.store.fake_registry import KIND, digest_of

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no docker-registry")

KILLS = 20
SIZE = 48 * 1024 * 1024


def upload(host: str, data: bytes) -> Layer:
    """Straight to the registry, by its own protocol."""
    base = f"http://{host}/v2/library/big"
    place = httpx.post(f"{base}/blobs/uploads/").headers["location"]
    digest = digest_of(data)
    url = httpx.URL(place).copy_merge_params({"digest": digest})
    assert httpx.put(url, content=data, timeout=60).status_code == 201
    return Layer(digest, len(data), KIND)


def publish(host: str, *blobs: bytes) -> bytes:
    layers = [upload(host, blob) for blob in blobs]
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {"mediaType": KIND, "digest": layers[-1].digest, "size": layers[-1].size},
        "layers": [{"mediaType": KIND, "digest": x.digest, "size": x.size} for x in layers],
    }
    url = f"http://{host}/v2/library/big/manifests/latest"
    answer = httpx.put(
        url,
        content=httpx.Request("PUT", url, json=document).content,
        headers={"Content-Type": kind},
    )
    assert answer.status_code == 201, answer.text
    return httpx.get(url, headers={"Accept": kind}).content


def begun(store: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store.pull_once", str(store), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(180)
def test_a_pull_that_is_killed_twenty_times_ends_with_the_right_bytes(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    data = chance.randbytes(SIZE)
    sizes: list[int] = []
    with registry(tmp_path) as host:
        manifest = publish(host, data, b"small")
        name = f"{host}/library/big"
        reader = OwnStore(tmp_path / "own")
        digest = digest_of(data)
        partial = reader.blob(digest).with_name(f"{reader.blob(digest).name}-partial")
        while len(sizes) < KILLS:
            process = begun(reader.root, name)
            assert process.stdout is not None
            # Half of them somewhere on the way, half before it has begun.
            if len(sizes) % 2:
                process.stdout.readline()
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
            done = process.stdout.read().endswith("success\n")
            process.wait()
            process.stdout.close()
            if done:
                # Faster than the signal: from the beginning again.
                for path in reader.blobs.iterdir():
                    path.unlink()
                reader.manifests.joinpath(names.parse(name).path).unlink()
                continue
            sizes.append(partial.stat().st_size if partial.exists() else 0)
            if reader.has(digest):
                assert digest_of(reader.blob(digest).read_bytes()) == digest, seed
            if (found := reader.read(names.parse(name))) is not None:
                assert (found, reader.has(digest)) == (manifest, True), seed
        process = begun(reader.root, name)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0
    assert output.endswith("success\n")
    assert reader.read(names.parse(name)) == manifest
    assert digest_of(reader.blob(digest).read_bytes()) == digest, seed
    assert not partial.exists()
    # Some of them did find it half-way.
    assert any(0 < size < SIZE for size in sizes), sizes

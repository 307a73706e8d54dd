"""Files by digest and keys at rest."""

import hashlib
import os

import pytest

from gatelift.encoding import EncodingError, encode_base64
from gatelift.wire.files import FileStore, FileStoreError, replace_durably
from gatelift.wire.keyfiles import (
    KeyFileError,
    create_signing_key,
    load_private_key,
    load_secret_text,
    load_signing_key,
    save_secret_text,
    save_seed,
)


def test_bytes_lie_under_their_digest(tmp_path):
    store = FileStore(tmp_path / "files")
    digest = store.put(b"plan")
    hexes = hashlib.sha256(b"plan").hexdigest()
    assert digest == f"sha256:{hexes}"
    assert (tmp_path / "files" / "sha256" / hexes).read_bytes() == b"plan"
    assert store.put(b"plan") == digest
    assert store.get(digest) == b"plan"
    assert store.has(digest)


def test_a_missing_file_is_said(tmp_path):
    store = FileStore(tmp_path)
    with pytest.raises(FileStoreError) as caught:
        store.get(f"sha256:{'0' * 64}")
    assert caught.value.code == "file_missing"
    assert not store.has(f"sha256:{'0' * 64}")


def test_changed_bytes_are_refused_and_putting_mends_them(tmp_path):
    store = FileStore(tmp_path)
    digest = store.put(b"plan")
    store.path(digest).unlink()
    store.path(digest).write_bytes(b"plAn")
    with pytest.raises(FileStoreError) as caught:
        store.get(digest)
    assert caught.value.code == "file_corrupt"
    store.put(b"plan")
    assert store.get(digest) == b"plan"


def test_a_digest_cannot_name_another_folder(tmp_path):
    with pytest.raises(EncodingError):
        FileStore(tmp_path).get("sha256:../../etc/passwd")


def test_a_failed_replacement_leaves_the_old_bytes_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "head"
    replace_durably(path, b"old")

    def fail(fd):
        raise OSError("injected")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="injected"):
        replace_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


def test_a_new_key_is_private_and_loads_as_the_same_key(tmp_path):
    path = tmp_path / "control.key"
    key = create_signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_signing_key(path).public == key.public
    assert load_private_key(path).public_key().public_bytes_raw() == key.public
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o610])
def test_a_key_that_others_may_use_is_refused(tmp_path, mode):
    path = tmp_path / "control.key"
    create_signing_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600") as caught:
        load_signing_key(path)
    assert caught.value.code == "key_file_mode"


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "control.key"
    save_seed(path, b"k" * 32)
    with pytest.raises(KeyFileError) as caught:
        save_seed(path, b"l" * 32)
    assert caught.value.code == "key_file_exists"
    assert load_secret_text(path) == encode_base64(b"k" * 32)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "c2VjcmV0\n", "not base64 at all!\n", "a\nb\n", " YQ==\n", "\xff\n"],
)
def test_what_is_no_key_is_refused_without_showing_it(tmp_path, text):
    path = tmp_path / "control.key"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        load_signing_key(path)
    shown = f"{caught.value}{caught.value.__cause__}"
    assert not text.strip() or text.strip() not in shown
    assert "base64 at all" not in shown


def test_a_missing_key_is_said(tmp_path):
    with pytest.raises(KeyFileError) as caught:
        load_signing_key(tmp_path / "none.key")
    assert caught.value.code == "key_file_missing"


def test_a_secret_text_comes_back_as_it_was(tmp_path):
    save_secret_text(tmp_path / "upstream.key", "sk-upstream 1")
    assert load_secret_text(tmp_path / "upstream.key") == "sk-upstream 1"
    with pytest.raises(KeyFileError):
        save_secret_text(tmp_path / "two", "a\nb")

"""A run has one version under a name, however often it is promoted."""

from __future__ import annotations

from pathlib import Path

from dp_train.tracking.connection import client
from dp_train.tracking.registry import RESERVATION, register, versions
from dp_train.tracking.store import TrackingStore


def test_a_run_that_is_promoted_twice_has_one_version_with_todays_tags_and_alias(
    store: TrackingStore, tmp_path: Path
) -> None:
    model = tmp_path / "exported"
    model.mkdir()
    (model / "config.json").write_text("{}")
    runs = [client(store.uri).create_run(store.experiment("talks")).info.run_id for _ in range(2)]
    first = register(store, runs[0], model, name="talks", alias=None, tags={RESERVATION: "r1", "consent.root": "a"})
    again = register(
        store, runs[0], model, name="talks", alias="champion", tags={RESERVATION: "r1", "consent.root": "b"}
    )
    assert (first.version, again.version) == ("1", "1")
    assert again.aliases == ("champion",)
    assert again.tags["consent.root"] == "b"
    assert [one.label for one in versions(store, runs[0])] == ["talks/1"]
    other = register(store, runs[1], model, name="talks", alias=None, tags={RESERVATION: "r2"})
    elsewhere = register(store, runs[0], model, name="others", alias=None, tags={RESERVATION: "r1"})
    assert (other.label, elsewhere.label) == ("talks/2", "others/1")

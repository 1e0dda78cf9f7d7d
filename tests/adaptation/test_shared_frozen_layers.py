"""Candidates of `adapt` that freeze the same part share what it gives."""

from __future__ import annotations

import adapting
import tiny_shift

from hftransfer.trainers.frozen_layer_cache import FrozenLayerCache

SOURCE_ONLY = {"source-only": {}, "source-only-2": {"seed": 1000}, "source-only-3": {"seed": 2000}}


def test_the_second_and_the_third_source_only_run_read_what_the_first_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", str(tmp_path / "cache"))
    made, fill = [], FrozenLayerCache.fill

    def watched(self):
        fill(self)
        assert not self.why_off
        made.append((self.statistics.computed > 0, self.statistics.read > 0))

    monkeypatch.setattr(FrozenLayerCache, "fill", watched)
    tiny_shift.run(
        adapting.save_model(tmp_path / "model"),
        tmp_path / "out",
        candidates=SOURCE_ONLY,
        source_rows=48,
        target=tiny_shift.domain(48, 1, labelled=False),
        validation=tiny_shift.domain(40, 2),
        max_steps=2,
        freeze="first_1",
        cache_frozen_layers="float16",
    )
    assert made == [(True, False), (False, True), (False, True)]

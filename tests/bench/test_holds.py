"""What a request holds the event loop: that the instrument sees it, stage by stage."""

import asyncio

from bench.holds import measure_all


def test_hits_are_told_with_the_stages_that_they_have(tmp_path):
    found = asyncio.run(measure_all(tmp_path, stored=(60,), rounds=10))
    by_kind = {holds.kind: holds for holds in found}
    assert by_kind["exact"].requests == 10
    semantic = by_kind["semantic"]
    places = {stage.at for stage in semantic.stages}
    assert {"OneThread.__call__", "LocalEmbedder._await", "GatewayProtocol"} <= places
    assert not {"OneThread.__call__", "LocalEmbedder._await"} & {stage.at for stage in by_kind["exact"].stages}
    assert 0 < semantic.longest.p50 < semantic.whole.p50
    assert by_kind["exact"].whole.p50 < semantic.whole.p50

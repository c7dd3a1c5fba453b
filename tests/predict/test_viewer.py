"""Recordings for Rerun, read back by its own SDK."""

import sys

import numpy as np
import pytest

from clip2scene.compute import compute
from clip2scene.datasets.index import load_frame, read_index
from clip2scene.datasets.nuscenes import NuScenes
from clip2scene.errors import InputError
from clip2scene.predict import viewer
from clip2scene.predict.viewer import Choice, rerun_sdk, show
from clip2scene.runs import Run

LOOKED_AT = Run("finetune", key="0123456789ab", target="nuscenes")


def test_without_rerun_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(InputError, match=r"^rerun: is not installed; .*pip install 'clip2scene\[view\]'$"):
        rerun_sdk()


def test_a_recording_holds_scan_sweeps_images_labels_and_errors(
    network, study_at, bar, tiny_root, tmp_path, monkeypatch
):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    from rerun import dataframe

    data = {"root": str(tiny_root), "version": "v1.0-tiny", "sweeps": 2}
    study = study_at(tmp_path, nuscenes=data)
    compute(study, study.keyed(Run("index", target="nuscenes")))
    monkeypatch.setattr(viewer, "load_network", lambda study, run: network)
    out = tmp_path / "scenes.rrd"
    assert show(study, LOOKED_AT, Choice((), 2, None, "official"), out, bar) == 2
    recording = dataframe.load_recording(out)
    entities = {str(column.entity_path) for column in recording.schema().component_columns()}
    expected = {"scan", "labels", "prediction", "errors", "sweeps/1", "sweeps/2", "cameras/CAM_FRONT/image",
                "cameras/CAM_FRONT/image/pairs"}  # fmt: skip
    assert {f"/world/{name}" for name in expected} <= entities
    index = read_index(study.index("nuscenes"), tiny_root).split("val")
    frame = load_frame(NuScenes(), tiny_root, index.frames.iloc[0])
    table = recording.view(index="keyframe", contents="/world/labels").select().read_pandas()
    (column,) = (name for name in table if "ClassId" in name)
    np.testing.assert_array_equal(np.concatenate(table[column].iloc[:1].tolist()), frame.labels)
    with pytest.raises(InputError, match="frame id 'x': not in the index"):
        show(study, LOOKED_AT, Choice(("x",), 2, None, "official"), out, bar)

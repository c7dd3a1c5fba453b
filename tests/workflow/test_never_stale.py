"""Edits and moves in a real checkout: what runs again, and that nothing else does."""

import json
import shutil

import pandas as pd
import pytest
from checkouts import ROOT, install, since

pytestmark = pytest.mark.workflow

FROM_CLIP2SCENE = {"pretrain clip2scene", "annotation_free clip2scene nuscenes"}


def table(site):
    return pd.read_csv(site.results / "table_main.csv", keep_default_na=False)


def test_comments_docstrings_and_formatting_run_nothing(site):
    before = site.history()
    for file in ("clip2scene/method/semantic.py", "clip2scene/training/loop.py", "baselines/ppkt.py"):
        path = site.folder / file
        source = path.read_text()
        head, _, rest = source.partition('"""')[2].partition('"""')
        path.write_text(f'"""Another docstring for {len(head)} letters."""  # and a comment\n\n\n{rest}')
    assert "Nothing to be done" in site.snakemake()
    assert since(before, site) == set()


def test_an_edited_loss_trains_its_method_alone_and_comes_back_when_undone(site):
    before, shown = site.history(), table(site)
    edit = ("clip2scene/method/semantic.py", "F.cross_entropy(", "1.5 * F.cross_entropy(")
    source = (site.folder / edit[0]).read_text()
    (site.folder / edit[0]).write_text(source.replace(edit[1], edit[2]))
    explained = site.clip2scene("why", "main")
    assert "code has changed: clip2scene.method.semantic" in explained
    assert "ppkt" not in explained
    site.snakemake()
    assert since(before, site) == FROM_CLIP2SCENE
    between = site.history()
    (site.folder / edit[0]).write_text(source)
    assert "an earlier result has what is asked for now" in site.clip2scene("why", "main")
    site.snakemake()
    assert since(between, site) == set()  # what was superseded came back
    pd.testing.assert_frame_equal(table(site), shown)
    assert between.keys() <= site.history().keys()  # and nothing was deleted on the way


def test_an_edited_prompt_embeds_and_trains_again_what_reads_it(site):
    before = site.history()
    site.edit(
        "clip2scene/datasets/vocabulary.py", '"bus", "car", "construction', '"bus", "auto", "construction'
    )
    site.snakemake()
    assert since(before, site) == FROM_CLIP2SCENE | {
        "text nuscenes", "projection maskclip_projection nuscenes",
    }  # fmt: skip


def test_an_edited_metric_runs_no_job_but_the_tables(site):
    before, shown = site.history(), table(site)
    site.edit(
        "clip2scene/evaluation/metrics.py",
        "return ratio(np.nan_to_num(iou).sum(-1), present)",
        "return ratio(np.nan_to_num(iou).sum(-1), 2 * present)",
    )
    output = site.snakemake()
    assert since(before, site) == set()
    assert {line.split()[0] for line in output.splitlines() if line.startswith(("table_", "finetune"))} == {
        "table_claims", "table_cross_domain", "table_main", "table_results",
    }  # fmt: skip
    halves = table(site)["miou_mean"] - shown["miou_mean"] / 2
    assert halves.abs().max() < 0.011


def test_an_edited_writer_makes_other_data_and_runs_every_row_on_them(site):
    before = site.history()
    made = {path.name for path in (site.folder / "data/nuscenes").iterdir()}
    site.edit("clip2scene/synthetic/nuscenes_writer.py", "_QUALITY = 90", "_QUALITY = 60")
    site.snakemake()
    kinds = since(before, site)
    assert {"synthetic nuscenes", "index nuscenes", "teacher", "superpixels nuscenes"} <= kinds
    assert kinds >= FROM_CLIP2SCENE
    assert not any(name.endswith("kitti") for name in kinds)
    # JPEG quality changes images alone, and fine-tuning from random initialisation reads none
    assert "finetune random nuscenes" not in kinds
    assert made < {path.name for path in (site.folder / "data/nuscenes").iterdir()}  # the old data are there


def test_an_edited_sensor_runs_rows_that_pre_train_nothing(site):
    before = site.history()
    site.edit(
        "clip2scene/synthetic/nuscenes_writer.py", "np.clip(255 * sweep.power", "np.clip(200 * sweep.power"
    )
    site.snakemake("results/table_cross_domain.csv")
    assert {"finetune random nuscenes", "predict finetune random nuscenes"} <= since(before, site)


def test_a_changed_setting_runs_what_it_bears_on_and_nothing_when_changed_back(site):
    before, shown = site.history(), table(site)
    site.configure(finetune={"epochs": 3})
    assert "setting tuning.epochs (2 → 3)" in site.clip2scene("why", "finetune")
    site.snakemake()
    tuned = since(before, site)
    assert {name.split()[0] for name in tuned} == {"finetune", "linear_probe", "predict"}
    between = site.history()
    site.configure(finetune={"epochs": 2})
    site.snakemake()
    assert since(between, site) == set()
    pd.testing.assert_frame_equal(table(site), shown)


def test_moved_data_run_the_index_alone(site):
    before = site.history()
    (site.folder / "elsewhere").mkdir()
    shutil.move(site.folder / "data/nuscenes", site.folder / "elsewhere/streets")
    shutil.move(site.folder / "data/kitti", site.folder / "elsewhere/kitti")
    (site.folder / "data/link").symlink_to(site.folder / "elsewhere/kitti")
    site.edit("config/config.yaml", "root: data/nuscenes", "root: elsewhere/streets")
    site.edit("config/config.yaml", "root: data/kitti", "root: data/link")
    site.snakemake()
    assert since(before, site) == {"index nuscenes", "index kitti"}


def test_a_moved_results_folder_runs_nothing(site):
    before = site.history()
    (site.folder / "far").mkdir()
    shutil.move(site.results, site.folder / "far/away")
    shutil.copytree(site.folder / "far/away/published", site.results / "published")
    site.configure(results="far/away", tracking={"uri": "sqlite:///far/away/mlflow.db"})
    site.snakemake()
    moved = {
        (values["key"], values["started"])
        for path in (site.folder / "far/away/runs").glob("*/run.json")
        if (values := json.loads(path.read_text()))
    }
    assert moved == before.keys()


def test_a_copied_results_folder_gets_a_new_row_though_snakemake_s_records_are_gone(site):
    shutil.rmtree(site.folder / ".snakemake")
    before = site.history()
    site.configure(variants={"as_it_is": {}})
    site.add_rows(
        "finetune\trandom\t\tspvcnn\t\tnuscenes\t50\tscene_skip\t\t0\tmain\tas_it_is",
        columns="variant",
    )
    site.snakemake("results/table_main.csv")
    assert since(before, site) == set()  # the run was there: another row asked for it
    assert len(table(site)) == 7
    assert table(site)["variant"].tolist() == [""] * 6 + ["as_it_is"]


def test_an_edit_is_seen_though_snakemake_s_records_are_gone(site):
    shutil.rmtree(site.folder / ".snakemake")
    before = site.history()
    site.edit("clip2scene/method/semantic.py", "F.cross_entropy(", "1.5 * F.cross_entropy(")
    site.snakemake("results/table_main.csv")
    assert since(before, site) == FROM_CLIP2SCENE


def test_a_table_of_another_study_is_never_taken_for_this_one_s(site):
    shown = table(site)
    config = site.config.read_text()
    site.configure(seed=3, datasets={}, finetune={"epochs": 1})
    site.config.write_text(config.replace("epochs: 2", "epochs: 1"))
    site.snakemake("results/table_main.csv")
    assert table(site)["study"][0] != shown["study"][0]
    site.config.write_text(config)
    shutil.rmtree(site.folder / ".snakemake")
    site.snakemake("results/table_main.csv")
    pd.testing.assert_frame_equal(table(site), shown)


def test_a_sequence_added_to_a_download_is_seen(site):
    before = site.history()
    shutil.move(site.folder / "spare/02", site.folder / "data/kitti/sequences/02")
    assert "files were added to the data set" in site.clip2scene("why", "main")
    site.snakemake()
    assert since(before, site) == {
        "index kitti", "subset kitti", "finetune random kitti", "predict finetune random kitti",
    }  # fmt: skip


def test_a_third_party_s_module_is_followed_through_relative_imports(site):
    modules = {
        "outsider/__init__.py": "",
        "outsider/spec.py": (
            "from clip2scene.method.spec import MethodSpec\n"
            "MINE = MethodSpec('outsider.method:Mine', needs=frozenset({'images'}))\n"
        ),
        "outsider/method.py": (
            "from clip2scene.method.base import Method\n"
            "from .loss import loss\n\n\n"
            "class Mine(Method):\n"
            "    def __init__(self, config, recipe, backbone, resources):\n"
            "        super().__init__(config, recipe, backbone, resources)\n"
            "        self.backbone = backbone\n\n"
            "    def training_step(self, batch, progress):\n"
            "        return {'mine': loss(self.backbone(batch.coordinates, batch.features))}\n"
        ),
        "outsider/loss.py": "def loss(features):\n    return features.square().mean()\n",
    }
    install(site, "outsider", modules, [("clip2scene.methods", "mine", "outsider.spec:MINE")])
    site.add_rows("finetune\tmine\t\tspvcnn\tnuscenes\tnuscenes\t50\tscene_skip\t0\t0\tmain")
    before = site.history()
    mine = {"pretrain mine", "finetune mine nuscenes", "predict finetune mine nuscenes"}
    site.snakemake("results/table_main.csv")
    assert since(before, site) == mine
    before = site.history()
    site.edit("outsider/loss.py", "mean()", "mean() * 2")
    site.snakemake("results/table_main.csv")
    assert since(before, site) == mine
    before = site.history()
    site.edit("outsider/loss.py", "def loss(features):\n", "def loss(features):\n    # twice\n")
    site.snakemake("results/table_main.csv")
    assert since(before, site) == set()


def test_a_protocol_and_a_table_come_from_one_file_outside_the_package(site):
    entries = [
        ("clip2scene.stages", "majority", "majority:Majority"),
        ("clip2scene.tables", "floors", "majority:Floors"),
    ]
    source = (ROOT / "examples/table/majority.py").read_text()
    install(site, "majority", {"majority.py": source}, entries)
    site.add_rows(
        "majority\trandom\t\tspvcnn\t\tnuscenes\t\t\t\t\tfloors",
        "majority\trandom\t\tspvcnn\t\tkitti\t\t\t\t\tfloors",
    )
    before = site.history()
    site.snakemake("results/table_floors.csv")
    assert since(before, site) == {"majority random nuscenes", "majority random kitti"}
    floors = pd.read_csv(site.results / "table_floors.csv")
    assert floors["target"].tolist() == ["nuscenes", "kitti"]
    assert floors["miou"].between(0.001, 0.5).all()
    assert "floors: verified" in site.clip2scene("verify", "floors")

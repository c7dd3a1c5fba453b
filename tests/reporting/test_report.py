"""The report: its numbers and links against the tables, and that it loads nothing."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from PIL import Image, PngImagePlugin

from clip2scene import layout
from clip2scene.errors import InputError
from clip2scene.files import write_json
from clip2scene.report import cost, plots, tables
from clip2scene.report.captions import caption
from clip2scene.report.page import write_report
from clip2scene.report.sections import training
from clip2scene.reporting.base import get_table
from clip2scene.reporting.registry import all_names
from clip2scene.reporting.verify import write_table
from clip2scene.workflow import Workflow

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FREE = {
    "protocol": "annotation_free", "method": "clip2scene", "recipe": "fixed", "backbone": "spvcnn",
    "pretrain": "nuscenes", "target": "nuscenes", "pretrain_seeds": "0", "tables": "main cross_domain",
}  # fmt: skip
TUNED = {"protocol": "finetune", "backbone": "spvcnn", "target": "nuscenes", "tables": "main label_fraction"}
ROWS = [
    {"protocol": "annotation_free", "method": "maskclip_projection", "target": "nuscenes"},
    FREE,
    *(
        TUNED | method | share
        for method in (
            {"method": "random", "seeds": "0 1"},
            {"method": "ppkt", "pretrain": "nuscenes", "pretrain_seeds": "0", "seeds": "0"},
        )
        for share in (
            {"percent": "50", "rule": "frame_skip"},
            {"percent": "50", "rule": "scene_skip"},
            {"percent": "100"},
        )
    ),
]


class Page(HTMLParser):
    """Names, links, loaded addresses and tables of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links, self.loaded, self.tables, self.plots = set(), [], [], {}, []
        self._cell = self._plot = None
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values["id"]} if "id" in values else set()
        self.links += [values["href"]] if tag == "a" else []
        self.loaded += [values[name] for name in ("src", "srcset", "data", "poster") if name in values]
        self.loaded += [values["href"]] if tag == "link" else []
        if tag == "table":
            self.tables[values["id"].removesuffix("-cells")] = self._table = [[]]
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._cell = values.get("data-column", "")
        elif tag == "script" and values.get("type") == "application/json":
            self._plot = ""

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data if self._table[-1] is not self._table[1] else ""
        if self._plot is not None:
            self._plot += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._table[-1].append(self._cell)
            self._cell = None
        if tag == "script" and self._plot is not None:
            self.plots.append(json.loads(self._plot))
            self._plot = None

    def rows(self, name):
        _, header, *rows = self.tables[name]
        return [dict(zip(header, row, strict=True)) for row in rows]


def finished_study(make_study, finish, folder):
    study = make_study(folder, *ROWS)
    finish(study, lambda run: 30 + 2 * run.seed + run.percent / 10 + (run.rule == "scene_skip"))
    for name in all_names():
        if name != "ablation":
            write_table(study, name)
    workflow = Workflow(study.config)
    for number, (job, runs) in enumerate(workflow.jobs.items(), start=1):
        path = study.config.results / "benchmarks" / runs[0].kind / f"{job}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"s": 90.0, "cpu_time": 120.0, "max_rss": 512.0 * number}) + "\n")
    picture = study.config.results / "figures/scene-nuscenes-1-above.png"
    picture.parent.mkdir()
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", "nuscenes, keyframe frame-0, synthetic data")
    Image.new("RGB", (2000, 500), "navy").save(picture, pnginfo=info)
    receipt = layout.receipt(study.config, f"figures-{study.name}")
    write_json(receipt, {"study": study.name, "files": [str(picture)]})
    return workflow


@pytest.fixture(scope="module")
def workflow(make_study, finish, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # for the published numbers
        return finished_study(make_study, finish, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def report(workflow):
    path = workflow.config.results / "report.html"
    write_report(workflow, "config/config.yaml", path)
    return path


@pytest.fixture(scope="module")
def page(report):
    return Page(report)


def csv(workflow, name):
    return pd.read_csv(workflow.config.results / f"{name}.csv", dtype=str, keep_default_na=False)


def test_every_number_is_the_table_s(workflow, page):
    """Cell by cell: the number of the CSV file, its interval, and its verdict."""
    files = sorted(path.stem for path in workflow.config.results.glob("*.csv"))
    assert sorted(page.tables.keys() - {"cost"}) == files
    ends = {"miou_mean": ("low", "high"), "value": ("low", "high"), "mean": ("seed_low", "seed_high")}
    with_intervals = 0
    for name in files:
        expected, rows = csv(workflow, name).to_dict("records"), page.rows(name)
        assert len(rows) == len(expected)
        for row, cells in zip(expected, rows, strict=True):
            for column in cells.keys() & row.keys():
                low, high = (row.get(end) for end in ends.get(column, (f"{column}_low", f"{column}_high")))
                wanted = row[column] + (f" [{low}, {high}]" if row[column] and low and high else "")
                if column == "verdict" and row["reason"]:
                    wanted += f": {row['reason']}"
                if column == "label_percent" and wanted:
                    wanted = f"{float(wanted):g}"
                if name != "table_per_class":
                    assert cells[column] == wanted, (name, column)
                with_intervals += "[" in cells[column]
    assert with_intervals > 50


def test_ious_have_the_intervals_of_the_table_of_all_numbers(workflow, page):
    every = csv(workflow, "results")
    of = {(row.run_keys, row["class"]): row for _, row in every[every["metric"] == "iou"].iterrows()}
    for row in page.rows("table_per_class"):
        expected = of[row["run_keys"], "car"]
        assert row["car"] == f"{expected['value']} [{expected['low']}, {expected['high']}]"
        assert row.get("bus", "") == ""


def test_rows_of_one_column_keep_their_own_intervals(workflow):
    """Two rows of `table_per_class` may differ in their pre-training alone, which it does not name."""
    every = tables.numbers(tables.read_tables(workflow))
    car = every[every["class"] == "car"].head(2)
    per_class = pd.DataFrame({"method": "clip2scene", "car": car["value"], "run_keys": car["run_keys"]})
    rows = tables.shown("table_per_class", per_class, every).rows
    for cells, low in zip(rows, car["low"], strict=True):
        assert any(f"[{low}, " in html for _, html in cells)
    assert len(rows) == 2


def test_a_column_that_never_changes_is_said_once(workflow, page, report):
    assert "study" not in page.rows("table_main")[0]
    assert f"study <code>{workflow.name}</code>" in report.read_text()


def test_links_lead_to_sections_of_the_page(workflow, page):
    assert {link[0] for link in page.links} == {"#"}
    assert {link[1:] for link in page.links} <= page.ids
    assert {f"run-{key}" for key in workflow.runs} <= page.ids
    keys = " ".join(csv(workflow, "results")["run_keys"]).split()
    assert {f"#run-{key}" for key in keys} <= {*page.links}


def test_a_run_has_its_settings_cost_and_command(workflow, report):
    run = next(run for run in workflow.runs.values() if run.kind == "finetune")
    text = report.read_text().partition(f'id="run-{run.key}"')[2].partition("</details>")[0]
    assert "seconds 2" in text
    assert f'clip2scene --config config/config.yaml run --parents <a href="#run-{run.key}">' in text
    for name in workflow.settings(run):
        assert f"\n  {name}" in text


def test_nothing_is_loaded_from_a_network(page, report):
    assert page.loaded
    assert all(address.startswith("data:") for address in page.loaded)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', report.read_text())[1]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert report.stat().st_size < 15e6


def test_the_same_files_give_the_same_bytes(workflow, report, tmp_path):
    write_report(Workflow(workflow.config), "config/config.yaml", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_rules_of_labels_never_share_a_line(workflow):
    """Every line is of one panel, and every panel of one rule; all labels end each."""
    every = tables.numbers(tables.read_tables(workflow))
    ((title, figure),) = plots.label_fractions(every)
    assert title == "nuscenes, finetune, spvcnn"
    of = {row["run_keys"]: row["fraction_rule"] for row in every.to_dict("records")}
    panels = {}
    for line in figure.data:
        rules = [of[hover[-1]] for hover in line.customdata]
        assert len({*rules} - {""}) == 1
        assert rules[-1] == ""
        assert len(line.error_y.array) == len(line.y)
        panels.setdefault(line.xaxis, set()).update({*rules} - {""})
    assert sorted(map(list, panels.values())) == [["frame_skip"], ["scene_skip"]]


def test_figures_show_the_numbers_of_the_tables(workflow):
    every = tables.numbers(tables.read_tables(workflow))
    titles = dict(plots.per_class(every))
    bars = {bar.name: bar for bar in titles["nuscenes, annotation-free, no labels, spvcnn"].data}
    assert bars.keys() == {"maskclip_projection", "clip2scene fixed"}  # beside its teacher
    ious = every[(every["metric"] == "iou") & (every["method"] == "clip2scene")]
    shown = dict(zip(bars["clip2scene fixed"].x, bars["clip2scene fixed"].y, strict=True))
    for name, value in zip(ious["class"], ious["value"], strict=True):
        assert value == "" or shown[name] == float(value)
    ((_, matrix),) = plots.cross_domain(tables.read_tables(workflow)["table_cross_domain"])
    assert matrix.data[0].text[0][0] == csv(workflow, "table_cross_domain").loc[0, "nuscenes"]


def test_training_curves_of_methods_are_on_one_axis(workflow):
    figure = training(workflow)["finetune, nuscenes, 100 % of the labels, spvcnn"]
    assert [(line.name, line.hovertext) for line in figure.data] == [
        ("random", "random, seed 0"),
        ("random", "random, seed 1"),
        ("ppkt", "ppkt, seeds 0, 0"),
    ]
    first, second, other = (line.line.color for line in figure.data)
    assert first == second != other
    assert list(figure.data[0].y) == [1.0, 0.5]


def test_no_two_rows_of_a_figure_look_alike():
    """There are more networks than colours, and each of them was pre-trained on two data sets."""
    networks = [f"method {number}" for number in range(25)]
    looks = plots.Looks(networks)
    rows = [plots.named(network, source, "here") for network in networks for source in ("here", "there")]
    table, shown = pd.DataFrame({"row": rows}), []
    for number, part in looks.parts(table):
        drawn = looks.drawn(part["row"], "line_dash")
        each = {(drawn["color_discrete_map"][row], drawn["line_dash_map"][row]) for row in part["row"]}
        assert len(each) == len(part)
        shown += [f"{row}{number}" for row in part["row"]]
    assert len(shown) == len(rows)
    assert {name[-3:] for name in shown} >= {"(2)", "(3)"}


def test_a_log_that_is_gone_is_named(make_study, finish, tmp_path):
    """Its curve is not left out in silence."""
    study = make_study(tmp_path, *ROWS)
    finish(study)
    gone = next(run for run in study.runs.values() if run.kind == "finetune")
    path = layout.run_folder(study.config, gone) / "metrics.jsonl"
    path.unlink()
    with pytest.raises(InputError, match=f"^{path}: no such file, though run.json lists it"):
        training(study)


def test_hours_and_memory_are_snakemake_s(workflow, page):
    jobs = cost.read_jobs(workflow)
    assert set(jobs["job"]) == set(workflow.jobs)
    last = page.rows("cost")[-1]
    assert (last["stage"], last["jobs"], last["runs"]) == ("all", str(len(jobs)), str(len(workflow.runs)))
    assert float(last["hours"]) == pytest.approx(len(jobs) * 90 / 3600, abs=1e-3)
    assert float(last["largest memory, GiB"]) == len(jobs) / 2


def test_a_damaged_benchmark_is_named(workflow, tmp_path):
    path = tmp_path / "job.jsonl"
    path.write_text("{}\n")
    with pytest.raises(InputError, match=r"job\.jsonl: found .* expected a line of JSON with s"):
        cost._read(path)


def test_the_main_table_alone_is_enough(make_study, finish, tmp_path):
    study = make_study(tmp_path, *ROWS)
    finish(study)
    write_table(study, "main")
    out = tmp_path / "report.html"
    write_report(Workflow(study.config), "config/config.yaml", out)
    page = Page(out)
    assert sorted(page.tables) == ["table_main", "table_per_class"]
    assert "plots-label_fractions" in page.ids
    assert "plots-per_class" in page.ids


def test_another_study_s_tables_are_left_out(make_study, finish, tmp_path):
    study = make_study(tmp_path, *ROWS)
    finish(study)
    write_table(study, "main")
    other = make_study(tmp_path, FREE)
    assert tables.there(other) == []
    assert tables.there(study) == ["main"]


def test_a_study_without_tables_has_its_runs(make_study, finish, tmp_path):
    study = make_study(tmp_path, FREE)
    finish(study)
    out = tmp_path / "report.html"
    write_report(Workflow(study.config), "config/config.yaml", out)
    page = Page(out)
    assert not page.tables
    assert {f"run-{key}" for key in study.runs} <= page.ids


def test_every_table_has_a_caption():
    files = [file for name in all_names() for file in get_table(name).files]
    for name in ["workflow", *(Path(file).stem for file in files)]:
        assert caption(name).endswith("."), name


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1400, 420])
def test_it_opens_in_a_browser(report, width, tmp_path):
    """Tables are sortable, figures drawn, a link opens its run, and nothing sticks out of the page."""
    probe = tmp_path / "report.html"
    text = report.read_text()
    key = re.search(r'href="#run-(\w+)"', text)[1]
    check = f"""<script type="module">
    const wait = (ready) => new Promise((done) => {{
      const again = () => ready() ? done() : setTimeout(again, 50);
      again();
    }});
    await wait(() => "ready" in document.documentElement.dataset);
    document.querySelector(".plot").scrollIntoView();
    await wait(() => document.querySelector(".plot .main-svg"));
    location.hash = "#run-{key}";
    await wait(() => document.getElementById("run-{key}").open);
    const found = {{
      tables: document.querySelectorAll("table.dataTable").length,
      searches: document.querySelectorAll(".dtcc-search, .dtcc-button").length,
      sideways: document.documentElement.scrollWidth - innerWidth,
    }};
    document.body.innerHTML = "<output>" + JSON.stringify(found) + "</output>";
    </script></body>"""
    probe.write_text(text.replace("</body>", check))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
        f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=60000", "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = json.loads(re.search(r"<output>(.*?)</output>", shown.stdout)[1])
    assert found["tables"] == len(Page(report).tables)
    assert found["searches"] > found["tables"]
    assert found["sideways"] <= 0


def test_the_report_waits_for_the_tables_that_are_made_anyway(make_study, tmp_path):
    workflow = Workflow(
        make_study(
            tmp_path,
            TUNED | {"method": "random", "percent": "100", "seeds": "0", "tables": "main cross_domain"},
        ).config
    )

    def reported(*targets: str, jobs: tuple[str, ...] = ()) -> set[str]:
        return set(workflow.reported(SimpleNamespace(targets=targets, target_jobs=jobs)))

    results = workflow.config.results
    assert reported() == reported("all") == set(workflow.tables) > {"main", "cross_domain"}
    assert reported(f"{results}/report.html") == reported(f"{results}/table_main.csv") == {"main"}
    assert reported(f"{results}/table_cross_domain.csv") == {"main", "cross_domain"}
    assert reported(jobs=("report_page",)) == set()

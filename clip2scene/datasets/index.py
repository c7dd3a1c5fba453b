"""The index of a data set: a row a keyframe, written once as Parquet, through which frames are read.

Whatever is slow or needs a data set's own tools happens when the index is built. Training processes read this
one file. Matrices are stored flat, row by row, one list a keyframe. Paths are relative to the data root.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clip2scene.config import DatasetConfig
from clip2scene.datasets.frame import Camera, Dataset, Depth, Frame
from clip2scene.datasets.identity import keyframe_digests, split_digests
from clip2scene.datasets.plausible import check_index, unequal, warn
from clip2scene.datasets.registry import get_dataset
from clip2scene.errors import InputError
from clip2scene.files import atomic, first_line, reading
from clip2scene.run_files import refuse_changed
from clip2scene.task import Task

EGO_RADIUS = 1.0
"""Returns of earlier sweeps with abs(x) and abs(y) below this, metres, are the vehicle itself
(CLIP2Scene @ f37dae7, pretrain/dataloader_nuscenes.py, remove_ego_points). The keyframe keeps all its points:
labels are stored point by point."""

STRINGS = pa.list_(pa.string())

COLUMNS = pa.schema(
    [
        ("id", pa.string()),  # the keyframe's identifier
        ("scene", pa.string()),
        ("splits", STRINGS),  # every split that the keyframe belongs to
        ("timestamp", pa.int64()),  # microseconds
        ("points", pa.string()),  # path
        ("labels", pa.string()),  # path, null if unlabelled
        ("sweep_points", STRINGS),  # paths of earlier sweeps, the latest first
        ("sweep_poses", pa.list_(pa.float64())),  # [S, 4, 4]: sweep's sensor frame -> keyframe's, metres
        ("sweep_lags", pa.list_(pa.float64())),  # [S] seconds before the keyframe
        ("camera_names", STRINGS),
        ("camera_images", STRINGS),  # paths
        ("camera_sizes", pa.list_(pa.int64())),  # [L, 2] height and width, pixels
        ("camera_intrinsics", pa.list_(pa.float64())),  # [L, 3, 3] pixels
        ("camera_poses", pa.list_(pa.float64())),  # [L, 4, 4]: keyframe's sensor frame -> camera, metres
        ("depth_images", STRINGS),  # paths, one a camera; none of the three where cameras measure no depth
        ("depth_sizes", pa.list_(pa.int64())),  # [L, 2] height and width, pixels
        ("depth_intrinsics", pa.list_(pa.float64())),  # [L, 3, 3] pixels
        ("identity", STRINGS),  # digests by kind of data, see `clip2scene.datasets.identity`
    ]
)
OPTIONAL = ("depth_images", "depth_sizes", "depth_intrinsics")
"""Columns that a data set may leave out."""


REPETITIVE = [
    "scene",
    *(
        f"{name}.list.element"
        for name in (
            "splits",
            "camera_names",
            "camera_sizes",
            "camera_intrinsics",
            "depth_sizes",
            "depth_intrinsics",
        )
    ),
]
"""Columns whose few values a dictionary makes smaller; the others are read faster without."""


@dataclass(frozen=True)
class Index:
    """An index in memory, or part of one.

    Attributes:
        format: Registered name of the data set.
        root: Folder that the paths are relative to.
        frames: One row a keyframe, in the data set's own order (columns: `COLUMNS`).
    """

    format: str
    root: Path
    frames: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def ids(self) -> list[str]:
        """The keyframes' identifiers."""
        return self.frames["id"].tolist()

    @property
    def has_images(self) -> pd.Series:
        """A bool a row: the keyframe has images."""
        return self.frames["camera_sizes"].map(len) > 0

    def split(self, name: str) -> Self:
        """Return the keyframes of one split.

        Raises:
            InputError: no keyframe belongs to it; the splits that exist are named.
        """
        membership = self.frames["splits"].explode()  # a row a keyframe and split
        rows = membership.index[membership == name]
        if rows.empty:
            known = ", ".join(sorted(membership.dropna().unique()))
            raise InputError(f"split {name!r} of {self.root}: no keyframes; splits with keyframes: {known}")
        return replace(self, frames=self.frames.loc[rows])

    def subset(self, ids: Iterable[str]) -> Self:
        """Return the keyframes with these identifiers, in the order of the index.

        Raises:
            InputError: an identifier is not in the index.
        """
        wanted = set(ids)
        if unknown := sorted(wanted.difference(self.frames["id"])):
            raise InputError(
                f"frame id {unknown[0]!r}: not in the index of {self.root} ({len(unknown)} such ids)"
            )
        return replace(self, frames=self.frames[self.frames["id"].isin(wanted)])


def compute(task: Task) -> None:
    """Build the index of a run of the stage ``index``: ``index.parquet``.

    Its products are the digests of each split and kind of data (`clip2scene.datasets.identity`).

    Raises:
        InputError: the data set is incomplete; the message names what is missing.
    """
    task.record.begin(task.config, "cpu")
    path = task.record.folder / "index.parquet"
    data = task.config.datasets[task.run.target]
    index = build(data, path)
    products = {}
    for split in sorted({split for splits in index.frames["splits"] for split in splits}):
        digests = split_digests(index.split(split).frames["identity"])
        products |= {f"{split}/{kind}": value for kind, value in digests.items()}
    task.record.finish(products=products)


def build(config: DatasetConfig, out: Path, tell: Callable[[str], None] = warn) -> Index:
    """Build the index of a configured data set, write it to `out`, and return it.

    Args:
        config: The data set's section.
        out: Parquet file to write.
        tell: Receives a line for each kind of oddity, e.g. time stamps that fall.

    Raises:
        InputError: the data set is incomplete, or holds what cannot be; the message names the first fault.
    """
    if not config.root.is_dir():
        raise InputError(f"{config.root}: no such folder; expected the root of a {config.format} data set")
    frames = get_dataset(config.format).build_index(config.root, config.version, config.sweeps)
    for line in check_index(frames, config.root):
        tell(line)
    write_index(out, Index(config.format, config.root, frames))
    return read_index(out, config.root)


def write_index(path: Path, index: Index) -> None:
    """Write an index as Parquet, whole or not at all. It says nothing of where the data set lies."""
    left_out = {name: [[]] * len(index) for name in OPTIONAL if name not in index.frames}
    frames = index.frames.assign(**left_out)
    frames = frames.assign(identity=keyframe_digests(frames, index.root))
    try:
        table = pa.Table.from_pandas(frames, schema=COLUMNS, preserve_index=False)
    except (pa.ArrowException, KeyError, OverflowError) as error:
        raise InputError(f"{index.root}: its index cannot be written ({first_line(error)})") from None
    table = table.replace_schema_metadata({"format": index.format})
    with atomic(path) as temporary:
        pq.write_table(table, temporary, use_dictionary=REPETITIVE)


def read_index(path: Path, root: Path) -> Index:
    """Read an index.

    Args:
        path: Parquet file.
        root: Data root, which the paths in the index are relative to.

    Raises:
        InputError: the file is missing, is not an index, or is not the one that its run wrote.
    """
    expected = "an index, see `clip2scene index`"
    with reading(path, expected):
        with path.open("rb"):  # Arrow's own errors of the system have no number
            pass
        try:
            table = pq.read_table(path, partitioning=None)
            table.validate(full=True)  # a text that is not UTF-8 would be found only when it is looked at
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: not a Parquet file ({first_line(error)})") from None
    metadata = table.schema.metadata or {}
    if not table.schema.equals(COLUMNS) or b"format" not in metadata:
        missing = sorted(set(COLUMNS.names).difference(table.column_names))
        raise InputError(f"{path}: not an index of this version (missing columns: {missing}); build it again")
    if reason := _inconsistent(table):
        raise InputError(f"{path}: {reason}; build it again")
    refuse_changed(path)
    # Lists stay in Arrow's memory: a million Python objects take seconds to make, and every loader process
    # that counts references to them copies their pages.
    frames = table.to_pandas(
        types_mapper=lambda kind: pd.ArrowDtype(kind) if pa.types.is_list(kind) else None
    )
    return Index(metadata[b"format"].decode("utf-8", "replace"), root, frames)


def _inconsistent(table: pa.Table) -> str | None:
    """Return what is wrong with the rows of an index, or None; in Arrow, as there may be many rows."""
    for name in COLUMNS.names:
        column = table[name]
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        if (column.null_count and name != "labels") or (values is not column and values.null_count):
            return f"column {name} has {column.null_count or values.null_count} empty values; expected none"
        if pa.types.is_floating(values.type) and pc.all(pc.is_finite(values)).as_py() is False:
            return f"column {name} holds numbers that are not finite; expected finite numbers"
    twice = len(table) - pc.count_distinct(table["id"]).as_py()
    if twice:
        return f"{twice} of its {len(table)} rows name a keyframe again; expected a row a keyframe"
    lists = [field.name for field in COLUMNS if pa.types.is_list(field.type)]
    found = unequal({name: pc.list_value_length(table[name]).to_numpy() for name in lists})
    return found and f"keyframe {table['id'][found[0]].as_py()}: {found[1]}"


def cameras(root: Path, row: Any) -> tuple[Camera, ...]:
    """Return the cameras of one row of an index."""
    depths: list[Depth | None] = [
        Depth(root / image, tuple(size), intrinsics)
        for image, size, intrinsics in zip(
            row.depth_images,
            np.reshape(row.depth_sizes, (-1, 2)).tolist(),
            np.reshape(row.depth_intrinsics, (-1, 3, 3)),
            strict=True,
        )
    ]
    return tuple(
        Camera(name, root / image, (int(size[0]), int(size[1])), intrinsics, pose, depth)
        for name, image, size, intrinsics, pose, depth in zip(
            row.camera_names,
            row.camera_images,
            np.reshape(row.camera_sizes, (-1, 2)),
            np.reshape(row.camera_intrinsics, (-1, 3, 3)),
            np.reshape(row.camera_poses, (-1, 4, 4)),
            depths or [None] * len(row.camera_names),
            strict=True,
        )
    )


def load_frame(
    dataset: Dataset, root: Path, row: Any, sweeps: Sequence[int] = (), labels: bool = True
) -> Frame:
    """Read one keyframe.

    Args:
        dataset: Reads the files.
        root: Folder that the paths are relative to.
        row: A row of an index's `frames`.
        sweeps: Which of the row's earlier sweeps to read as well (0 = the latest); each is moved into the
            keyframe's sensor frame and loses the returns from the vehicle itself.
        labels: Read the labels, where there are any.

    Raises:
        InputError: a file is missing or damaged, or there is not one label for every point.
    """
    points, features = dataset.read_points(root / row.points)
    clouds, channels = [points], [features]
    poses = np.reshape(row.sweep_poses, (-1, 4, 4))
    for k in sweeps:
        cloud, channel = dataset.read_points(root / row.sweep_points[k])
        x, y = np.abs(cloud[:, :2].T)
        kept = np.flatnonzero((x >= EGO_RADIUS) | (y >= EGO_RADIUS))
        clouds.append((cloud.take(kept, 0) @ poses[k, :3, :3].T + poses[k, :3, 3]).astype(np.float32))
        channels.append(channel.take(kept, 0))
    sizes = [len(cloud) for cloud in clouds]
    return Frame(
        id=row.id,
        points=np.concatenate(clouds),
        features=np.concatenate(channels),
        sweep=np.repeat(np.arange(len(sizes)), sizes),
        labels=_read_labels(dataset, root, row, sizes) if labels and isinstance(row.labels, str) else None,
        cameras=cameras(root, row),
    )


def _read_labels(dataset: Dataset, root: Path, row: Any, sizes: list[int]) -> np.ndarray:
    """Read the labels [N] int64 of a keyframe, followed by 0 for every point of the earlier sweeps."""
    labels = dataset.read_labels(root / row.labels)
    if len(labels) != sizes[0]:
        expected = f"expected {sizes[0]}, one for each point of {root / row.points}"
        raise InputError(f"{root / row.labels}: {len(labels)} labels; {expected}")
    return np.concatenate([labels, np.zeros(sum(sizes[1:]), np.int64)])

"""Settings in TOML: what is written is read; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellunet import store
from cellunet.command_config import MODEL, PredictConfig, SplitConfig, SuggestConfig
from cellunet.config import TrainConfig
from cellunet.config_file import as_toml, read_settings
from cellunet.errors import ConfigError
from cellunet.presets import PRESETS, configure, for_target
from cellunet.settings import known_of, shown, unit_of


@pytest.fixture
def read(tmp_path: Path):
    """``read(text)``: the settings of a file."""

    def call(text: str) -> dict[str, object]:
        path = tmp_path / "a.toml"
        path.write_text(text, encoding="utf-8")
        return read_settings(path)

    return call


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("target", ["three-class", "boundary"])
def test_what_is_written_gives_the_same_training(read, preset, target) -> None:
    config = for_target(PRESETS[preset], target)
    assert configure(read(as_toml(config))[TrainConfig]) == config


def test_every_setting_is_written_with_what_it_means() -> None:
    text = as_toml(TrainConfig())
    assert (
        "[weights]\n# One weight per class, in the order of the class numbers (above "
        "0).\nclass_weights = [1.0, 1.0, 3.0]\n" in text
    )
    assert '\nschedule = "cosine"\n' in text
    assert "\nflips = true\n" in text
    # What follows from the images cannot be asked for.
    assert "in_channels" not in text
    assert "[decode]" not in text
    assert max(map(len, text.splitlines())) <= 88


def test_settings_have_names_with_their_table(read) -> None:
    found = read(
        "epochs = 3\n[weights]\nclass_weights = [1, 2]\n[split]\nfolds = 4\n"
        "[predict]\ndiameter_px = 'batch'\nmin_area_px = 3"
    )
    assert found[TrainConfig] == {"epochs": 3, "weights.class_weights": (1.0, 2.0)}
    assert found[SplitConfig] == {"folds": 4}
    assert found[PredictConfig] == {"diameter_px": "batch", "min_area_px": 3}
    assert not found[SuggestConfig]


def test_settings_of_other_commands_are_written_switched_off(read) -> None:
    text = as_toml(TrainConfig())
    assert "\n#edge =\n" in text
    assert '\n#diameter_px = "auto"\n' in text
    assert "\n[evaluate.bootstrap]\n" in text
    assert {kind for kind, values in read(text).items() if values} == {TrainConfig}
    switched_on = read(text.replace("#tile_px", "tile_px"))
    assert switched_on[PredictConfig] == {"tile_px": PredictConfig.tile_px}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("epoch = 3", "There is no setting epoch.", "keep, precision, seed, split"),
        (
            "[weights]\nborder = 3",
            "There is no setting weights.border.",
            "Known here: class_weights, border_weight",
        ),
        ("[split]\nshare = 3", "There is no setting split.share.", "folds"),
        ("[decode]\n", "decode follows from the images and the model", "weights"),
        ("[network]\nclasses = 3", "network.classes follows from the images", "chann"),
        ("batch = 0", "batch is 0; it must be at least 1.", ""),
        (
            "[weights]\nclass_weights = [1, 0]",
            "weights.class_weights are 1,0; it must be above 0.",
            "",
        ),
        (
            "[encoding]\nboundary_px = 9",
            "encoding.boundary_px is 9; it must be 1 to 8.",
            "",
        ),
        ("learning_rate = nan", "learning_rate is nan; it must be above 0.", ""),
        ("batch = '8'", "batch is '8'; int is expected.", ""),
        ("schedule = 'step'", "schedule is 'step'.", "Known: cosine, constant"),
        ("weights = 3", "weights is 3; a table is expected.", ""),
        ("split = 3", "split is 3; a table is expected.", ""),
        ("[predict]\ntile_px = 8", "predict.tile_px is 8; it must be at least 64", ""),
        ("[predict]\ndiameter_px = 'big'", "predict.diameter_px is 'big'", ""),
        ("[evaluate.encoding]\n", "evaluate.encoding follows from", "protocol"),
        ("epochs 3", "is no TOML: ", ""),
    ],
)
def test_what_is_wrong_is_named_with_what_is_possible(
    read, text: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert "a.toml" in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_as_windows_powershell_redirects_it(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes("# µm\r\nepochs = 3\r\n".encode(encoding))
    assert read_settings(path)[TrainConfig] == {"epochs": 3}


def test_bytes_that_are_no_text_are_no_toml(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xff")
    with pytest.raises(ConfigError, match="is no TOML"):
        read_settings(path)


def test_a_file_that_is_not_there_says_where_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(tmp_path / "a.toml")
    assert "models show nuclei --toml" in caught.value.hint


def test_settings_of_a_table_change_together() -> None:
    # Outer boundaries and the boundary target exclude each other on the way.
    given = {"encoding.boundary_px": 4, "encoding.boundary_side": "outer", "batch": 2}
    config = TrainConfig().changed(given)
    assert (config.encoding.boundary_px, config.batch) == (4, 2)
    assert config.encoding.boundary_side == "outer"


def test_help_texts_tell_what_the_model_that_ships_was_trained_with() -> None:
    decode = store.find_model(MODEL).card.config.decode
    fields = {field.name: field for field in PredictConfig.fields()}
    for name in ("seed_threshold", "min_area_px", "min_confidence"):
        trained = shown(getattr(decode, name), unit_of(name))
        assert known_of(fields[name]).otherwise == f"as trained, {trained} in {MODEL}"

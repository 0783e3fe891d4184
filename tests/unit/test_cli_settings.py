"""Settings: where they come from, and what is said of wrong ones."""

from pathlib import Path

import pytest

from cdc.cli import settings
from cdc.cli.app import invoke
from cdc.config import Settings
from cdc.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "aerospike-cdc.toml"


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings.load(file)
    return caught.value.message


def test_the_example_holds_every_setting_at_its_default(file: Path) -> None:
    file.write_text(settings.example())
    loaded = settings.load(file)
    default = Settings()
    assert loaded.kafka == default.kafka
    assert loaded.collector == default.collector.model_copy(update={"catalog": file.parent / "catalog"})
    for name, _ in settings.known_settings():
        assert (
            f"\n{name.rpartition('.')[2]} =" in settings.example()
            or f"# {name.rpartition('.')[2]} =" in settings.example()
        )


def test_relative_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "my.toml").write_text('[archive]\npath = "sets"\n[aerospike.tls]\nca_file = "ca.pem"')
    monkeypatch.chdir(elsewhere)
    loaded = settings.load(Path("../my.toml"))
    assert loaded.archive.path.resolve() == (tmp_path / "sets").resolve()
    assert loaded.aerospike.tls.ca_file is not None
    assert loaded.aerospike.tls.ca_file.name == "ca.pem"
    assert loaded.aerospike.tls.cert_file is None


def test_the_environment_wins_over_the_file_key_by_key(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[kafka]\nbootstrap = "a:1"\nprefix = "mine"')
    monkeypatch.setenv("AEROSPIKE_CDC__KAFKA__BOOTSTRAP", "b:2")
    monkeypatch.setenv("AEROSPIKE_CDC__AEROSPIKE__PASSWORD", "geheim")
    loaded = settings.load()
    assert (loaded.kafka.bootstrap, loaded.kafka.prefix) == ("b:2", "mine")
    assert loaded.aerospike.password.get_secret_value() == "geheim"
    assert "geheim" not in repr(loaded)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[kafka]\nbootstrp = "x:1"', "unknown setting kafka.bootstrp; did you mean kafka.bootstrap?"),
        ("[colector]\nshards = 4", "unknown setting colector; did you mean collector?"),
        ("[collector]\nshards = 3", "collector.shards: must be a power of two"),
        ('[aerospike]\nhosts = ["db1"]', "aerospike.hosts.0: must be host:port"),
        ("[collector]\nskew_s = 5", "overlap_s must be at least collector.skew_s"),
        ("[kafka", "not valid TOML"),
        ('[kafka.client]\n"sasl.password" = "geheim"', "belongs to [kafka.client_secrets]"),
    ],
)
def test_a_wrong_setting_is_named(file: Path, text: str, said: str) -> None:
    assert said in refusal(file, text)


def test_a_refused_secret_is_not_repeated(file: Path) -> None:
    assert "31337" not in refusal(file, "[aerospike]\npassword = 31337")


@pytest.mark.parametrize("name", ["AEROSPIKE_CDC__KAFK__PREFIX", "AEROSPIKE_CDC__KAFKA__PREFX"])
def test_a_wrong_variable_is_not_passed_over(file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match="did you mean kafka"):
        settings.load()


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        settings.load(tmp_path / "none.toml")


def test_init_writes_once_and_overwrites_when_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["init"]) == 0
    assert invoke(["init"]) == ConfigError.exit_code
    assert "exists" in capsys.readouterr().err
    assert invoke(["init", "--force"]) == 0
    assert file.read_text() == settings.example()


@pytest.mark.parametrize("arguments", [["bogus"], ["init", "--bogus"], ["--config"]])
def test_wrong_words_end_with_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said

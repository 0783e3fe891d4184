"""Settings: where they come from, and what is said of wrong ones."""

from pathlib import Path

import pytest

from cdc import settings
from cdc.cli.app import invoke
from cdc.config import ScopeSettings, Settings
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


def test_several_namespaces_are_taken_one_at_a_time(file: Path) -> None:
    file.write_text('[aerospike]\nnamespaces = ["a", "b"]\n[scope.b]\nexclude = ["x", ""]')
    loaded = settings.load(file)
    assert [one.aerospike.namespace for one in loaded.each()] == ["a", "b"]
    assert loaded.of("b").scope == {"b": ScopeSettings(exclude=("x", ""))}
    assert loaded.of("a").scope == {}
    assert loaded.of("b").collector == loaded.collector
    with pytest.raises(ConfigError, match="several namespaces are configured: a, b") as which:
        _ = loaded.aerospike.namespace
    assert "--namespace" in which.value.hint
    with pytest.raises(ConfigError, match="namespace c is not configured") as other:
        loaded.of("c")
    assert "a, b" in other.value.hint


def test_the_example_shows_a_scope_that_can_be_uncommented(file: Path) -> None:
    lines = settings.example().splitlines()
    start = lines.index("# [scope.NAMESPACE]")
    section = [line[2:] for line in lines[start : lines.index("", start)] if " = " in line or "[scope" in line]
    file.write_text("\n".join(section).replace("NAMESPACE", "test"))
    assert settings.load(file).scope == {"test": ScopeSettings()}


def test_destinations_are_taken_one_at_a_time_with_main_first(file: Path) -> None:
    file.write_text(
        '[archive]\nzstd_level = 5\n[destinations.offsite]\nurl = "s3://b/x"\n'
        '[destinations.disk]\npath = "other"\n[destinations.disk.encryption]\nkey_file = "key"'
    )
    loaded = settings.load(file)
    assert loaded.destination_names == ("main", "offsite", "disk")
    main, offsite, disk = loaded.each_destination()
    assert [one.archive.destination for one in (main, offsite, disk)] == ["main", "offsite", "disk"]
    assert (main.archive, main.destination_names, main.destination("main")) == (loaded.archive, ("main",), main)
    assert (offsite.archive.url, offsite.archive.zstd_level) == ("s3://b/x", 3)
    assert (disk.archive.path, disk.archive.encryption.key_file) == (file.parent / "other", file.parent / "key")
    assert disk.kafka == loaded.kafka
    with pytest.raises(ConfigError, match="there is no destination elsewhere") as caught:
        loaded.destination("elsewhere")
    assert "main, offsite, disk" in caught.value.hint


def test_the_example_shows_a_destination_that_can_be_uncommented(file: Path) -> None:
    lines = settings.example().splitlines()
    start = lines.index("# [destinations.NAME]")
    end = lines.index("[replayer]", start)
    section = [line[2:] for line in lines[start:end] if " = " in line or "# [" in line]
    text = "\n".join(line for line in section if not line.startswith("key_"))
    file.write_text(text.replace("NAME", "offsite").replace('"archive"', '"other"'))
    offsite = settings.load(file).destination("offsite").archive
    assert offsite.model_dump() == Settings().archive.model_dump() | {"path": file.parent / "other"}


def test_destinations_come_from_the_environment_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[destinations.offsite]\nurl = "s3://b/x"\nrequests = 3')
    monkeypatch.setenv("AEROSPIKE_CDC__DESTINATIONS__OFFSITE__URL", "gs://b/y")
    monkeypatch.setenv("AEROSPIKE_CDC__DESTINATIONS__OFFSITE__SECRETS__SERVICE_ACCOUNT_KEY", "geheim")
    monkeypatch.setenv("AEROSPIKE_CDC__DESTINATIONS__DISK__PATH", "other")
    loaded = settings.load()
    offsite = loaded.destination("offsite").archive
    assert (offsite.url, offsite.requests) == ("gs://b/y", 3)
    assert offsite.secrets["service_account_key"].get_secret_value() == "geheim"
    assert loaded.destination("disk").archive.path == file.parent / "other"
    assert "geheim" not in repr(loaded)


@pytest.mark.parametrize(
    ("main", "other", "said"),
    [
        ('path = "a"', 'path = "./a/"', "the destinations main and x are the same place"),
        ('path = "a"', 'path = "b/../a/c"', "the destinations main and x are one within the other"),
        ('url = "s3://b/p/"', 'url = "s3://b/p"', "the same place: s3://b/p"),
        ('url = "s3://b/p"', 'url = "s3://b"', "one within the other: s3://b"),
        ('path = "a"', 'path = "ab"', ""),
        ('url = "s3://b/p"', 'url = "s3://b/pq"', ""),
        ('url = "s3://b"', 'url = "gs://b"', ""),
        ('url = "s3://b"', 'url = "s3://b"\noptions = {endpoint = "http://minio:9000"}', ""),
        ('url = "az://c"', 'url = "az://c"\noptions = {account_name = "two"}', ""),
    ],
)
def test_destinations_keep_apart(file: Path, main: str, other: str, said: str) -> None:
    text = f"[archive]\n{main}\n[destinations.x]\n{other}"
    if said:
        assert said in refusal(file, text)
    else:
        file.write_text(text)
        assert settings.load(file).destination_names == ("main", "x")


def test_namespaces_and_a_scope_come_from_the_environment_too(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[aerospike]\nhosts = ["a:1"]')
    monkeypatch.setenv("AEROSPIKE_CDC__AEROSPIKE__NAMESPACES", '["one", "two"]')
    monkeypatch.setenv("AEROSPIKE_CDC__SCOPE__TWO__INCLUDE", '["x"]')
    loaded = settings.load()
    assert loaded.aerospike.namespaces == ("one", "two")
    assert loaded.scope["two"].include == ("x",)


def test_a_list_in_the_environment_that_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AEROSPIKE_CDC__AEROSPIKE__NAMESPACES", "one,two")
    with pytest.raises(ConfigError, match="AEROSPIKE_CDC__AEROSPIKE__NAMESPACES: not valid JSON"):
        settings.load()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[aerospike]\nnamespaces = []", "aerospike.namespaces: "),
        ('[aerospike]\nnamespaces = ["a", "a"]', "aerospike.namespaces: 'a' named twice"),
        ('[aerospike]\nnamespaces = ["a b"]', "aerospike.namespaces.0: "),
        ('[aerospike]\nnamespace = "a"', "unknown setting aerospike.namespace; did you mean aerospike.namespaces?"),
        ('[scope.other]\ninclude = ["a"]', "scope.other: other is not among aerospike.namespaces (test)"),
        ('[scope.test]\ninclude = ["a"]\nexclude = ["a"]', "scope.test: 'a' both included and excluded"),
        ('[scope.test]\ninclude = ["a;b"]', "scope.test.include.0: must be a set's name"),
        ('[scope.test]\nfilter = "%%%"', "scope.test.filter: must be the base64 text"),
        ('[scope.test]\nfilter = "AAAA"', "scope.test.filter: must be the base64 text"),
        ('[scope.test]\nincldue = ["a"]', "unknown setting scope.test.incldue; did you mean scope.NAMESPACE.include?"),
        ('[kafka]\nbootstrp = "x:1"', "unknown setting kafka.bootstrp; did you mean kafka.bootstrap?"),
        ("[colector]\nshards = 4", "unknown setting colector; did you mean collector?"),
        ("[collector]\nshards = 3", "collector.shards: must be a power of two"),
        ('[aerospike]\nhosts = ["db1"]', "aerospike.hosts.0: must be host:port"),
        ("[collector]\nskew_s = 5", "overlap_s must be at least collector.skew_s"),
        ("[kafka", "not valid TOML"),
        ('[destinations.Big]\npath = "a"', "destinations.Big: a destination's name is a small letter"),
        ('[destinations.main]\npath = "a"', "destinations.main: main is what [archive] is called"),
        ("[destinations.a]\nzstd_level = 4", "destinations.a: name its path or its url"),
        ('[archive]\nurl = "s3:/b"', "archive.url: a bucket is s3://bucket/prefix, gs://bucket/prefix or az://"),
        ('[destinations.a]\nulr = "s3://x"', "unknown setting destinations.a.ulr; did you mean destinations.NAME.url?"),
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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('into = "test"', "is backed up itself"),
        ('into = "scratch@"', "NAMESPACE@HOST:PORT"),
        ('into = "scratch@10.0.0.5"', "host:port"),
        ('sample = "half"', "drill.sample"),
        ('schedule = "sometimes"', "not a cron expression that ever comes"),
    ],
)
def test_what_is_no_drill_is_refused_before_one_is_due(file: Path, text: str, said: str) -> None:
    assert said in refusal(file, f"[drill]\n{text}")

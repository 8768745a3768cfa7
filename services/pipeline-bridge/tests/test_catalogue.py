import pytest
from hypothesis import given, strategies as st

from handler_base.errors import ConfigError, InvalidRequest, NotFound
from pipeline_bridge.catalogue import MAX_VALUE_CHARS, Parameter, Pipeline, filled, load, placeholders

ALL = ("argo", "kubeflow", "local")


@pytest.fixture
def catalogue(tmp_path):
    """Return a function that loads the shipped catalogue with some text laid over it."""

    def read(*texts, engines=ALL):
        paths = []
        for number, text in enumerate(texts):
            path = tmp_path / f"{number}.toml"
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        return load(paths, engines)

    return read


@pytest.fixture
def problems(catalogue):
    """Return a function that loads the same, and returns what is wrong with it."""

    def read(*texts):
        with pytest.raises(ConfigError) as caught:
            catalogue(*texts)
        return caught.value.problems

    return read


def pipeline(**parameters):
    return Pipeline(engine="argo", name="test", parameters=parameters)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_the_shipped_catalogue_has_the_pipelines_of_the_running_system(catalogue):
    found = catalogue().pipelines
    assert {name: one.engine for name, one in found.items()} == {
        "document-ingestion": "argo",
        "batch-inference": "argo",
        "model-evaluation": "argo",
        "rag-query": "kubeflow",
        "voice-pipeline": "kubeflow",
    }
    assert all(one.name == name and one.description for name, one in found.items())
    assert all(p.description for one in found.values() for p in one.parameters.values())


def test_a_file_changes_what_it_names_and_leaves_the_rest(catalogue):
    before = catalogue().find("rag-query")
    after = catalogue('[rag-query]\nrate = "30/hour"\n[rag-query.parameters.top-k]\ndefault = "7"').find(
        "rag-query"
    )
    assert after.rate == "30/hour"
    assert after.parameters["top-k"].default == "7"
    assert after.parameters["top-k"].maximum == before.parameters["top-k"].maximum
    assert list(after.parameters) == list(before.parameters)
    assert (after.engine, after.max_concurrent) == (before.engine, before.max_concurrent)


def test_later_files_are_laid_over_earlier_ones(catalogue):
    found = catalogue(
        '[mine]\nengine = "argo"\ntimeout = 1\nrate = "1/day"',
        '[mine]\ntimeout = 2\n[other]\nengine = "argo"',
    )
    assert (found.find("mine").timeout, found.find("mine").rate) == (2.0, "1/day")
    assert found.find("other").name == "other"


def test_of_a_folder_all_toml_files_are_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b.toml").write_text('[mine]\nengine = "argo"\ntimeout = 2')
    (tmp_path / "a.toml").write_text(
        '[mine]\nengine = "argo"\ntimeout = 1\ndescription = "☕"', encoding="utf-8"
    )
    (tmp_path / "c.txt").write_text("no TOML")
    found = load([str(tmp_path)], ALL).find("mine")
    assert (found.timeout, found.description) == (2.0, "☕")


def test_a_disabled_pipeline_is_not_there(catalogue):
    found = catalogue('[rag-query]\nenabled = false\n[mine]\nengine = "local"\nenabled = false')
    assert not {"rag-query", "mine"} & set(found.pipelines)
    with pytest.raises(NotFound, match="there is no pipeline 'rag-query'; there are: batch-inference, "):
        found.find("rag-query")


def test_every_problem_of_every_file_is_told_at_once(problems, tmp_path):
    (tmp_path / "broken.toml").write_text("[mine")
    (tmp_path / "latin.toml").write_bytes(b"[mine]\ndescription = '\xe9'")
    wrong = """
        [one]
        engine = "airflow"
        timeout = "long"
        shoe-size = 46
        [one.parameters.size]
        type = "integer"
        minimum = "small"
        colour = "red"
        [two]
        engine = "argo"
        rate = "often"
        timeout = 0
        max_concurrent = -1
        [Three]
        engine = "argo"
    """
    with pytest.raises(ConfigError) as caught:
        good = tmp_path / "good.toml"
        good.write_text(wrong)
        load(
            [str(tmp_path / name) for name in ("absent.toml", "broken.toml", "latin.toml", "good.toml")], ALL
        )
    said = caught.value.problems
    assert said[0] == f"PIPELINES_FILE: cannot use {tmp_path / 'absent.toml'}: No such file or directory"
    assert said[1].startswith(f"PIPELINES_FILE: cannot use {tmp_path / 'broken.toml'}: Expected ']'")
    assert said[2].startswith(f"PIPELINES_FILE: cannot use {tmp_path / 'latin.toml'}: 'utf-8' codec")
    assert said[3:] == [
        "pipeline one: parameter size: Expected `float | null`, got `str` - at `$.minimum`",
        "pipeline one: parameter size: Object contains unknown field `colour`",
        "pipeline one: Invalid enum value 'airflow' - at `$.engine`",
        "pipeline one: Expected `float`, got `str` - at `$.timeout`",
        "pipeline one: Object contains unknown field `shoe-size`",
        "pipeline two: rate 'often' is not like `30/hour` (second, minute, hour, day)",
        "pipeline two: max_concurrent is below 0",
        "pipeline two: timeout is not a number of seconds above 0",
        "pipeline Three: its name may have 63 lower-case letters, digits and dashes",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("engine = 'argo'", "pipeline engine: is not a table"),
        ("[mine]\ntimeout = 1", "pipeline mine: has no engine"),
        ("[mine]\nengine = 'argo'\nname = 'yours'", "pipeline mine: its name is that of its table"),
        (
            "[mine]\nengine = 'argo'\nparameters = 3",
            "pipeline mine: Expected `object`, got `int` - at `$.parameters`",
        ),
        (
            "[mine]\nengine = 'argo'\nparameters.x = 3",
            "pipeline mine: parameter x: Expected `object`, got `int`",
        ),
        (
            "[mine]\nengine = 'argo'\nparameters.x.default = 3",
            "pipeline mine: parameter x: Expected `str`, got `int` - at `$.default`",
        ),
        (
            "[mine]\nengine = 'argo'\ntimeout = inf",
            "pipeline mine: timeout is not a number of seconds above 0",
        ),
        (
            "[mine]\nengine = 'argo'\ntimeout = nan",
            "pipeline mine: timeout is not a number of seconds above 0",
        ),
        ("[mine]\nengine = 'local'", "pipeline mine: a local pipeline needs a command"),
    ],
)
def test_what_makes_no_sense_is_told_by_its_place(problems, text, says):
    assert problems(text) == [says]


@pytest.mark.parametrize("name", ["Mine", "my_own", "-mine", "mine-", "m" * 64, "a.b", "", "mine\\n"])
def test_a_name_that_could_not_be_one_everywhere_is_refused(problems, name):
    (said,) = problems(f'["{name}"]\nengine = "argo"')
    assert said.endswith("its name may have 63 lower-case letters, digits and dashes")


@pytest.mark.parametrize("name", ["m", "1", "my-own-2", "m" * 63])
def test_a_name_that_can_be_one_everywhere_is_taken(catalogue, name):
    assert catalogue(f'["{name}"]\nengine = "argo"').find(name).name == name


# ---- looking up -----------------------------------------------------------------------------------------------------


def test_a_pipeline_of_an_engine_that_is_not_used_is_told_from_one_that_is_not_there(catalogue):
    found = catalogue(engines=("kubeflow",))
    assert sorted(found.pipelines) == ["rag-query", "voice-pipeline"]
    with pytest.raises(NotFound, match="document-ingestion needs the engine argo, which is not used here"):
        found.find("document-ingestion")
    with pytest.raises(
        NotFound, match="there is no pipeline 'nonsense'; there are: rag-query, voice-pipeline"
    ):
        found.find("nonsense")


def test_without_any_pipeline_the_answer_says_so(catalogue):
    with pytest.raises(NotFound, match="there are: none"):
        catalogue(engines=()).find("mine")


@pytest.mark.parametrize("name", ["", "  "])
def test_a_trigger_without_a_name_is_told_what_there_is(catalogue, name):
    with pytest.raises(InvalidRequest, match="no pipeline is named; there are: batch-inference, "):
        catalogue().find(name)


# ---- rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "limit"),
    [
        ("", None),
        ("30/hour", (30, 3600.0)),
        ("1 / second", (1, 1.0)),
        ("5/minute", (5, 60.0)),
        ("1000/day", (1000, 86400.0)),
    ],
)
def test_a_rate_is_a_number_of_starts_and_the_seconds_for_them(rate, limit):
    assert Pipeline(engine="argo", rate=rate).limit == limit
    assert not Pipeline(engine="argo", rate=rate).problems()


@pytest.mark.parametrize(
    "rate", ["0/hour", "30", "30/hours", "-1/day", "1.5/minute", "/hour", "1/fortnight", " "]
)
def test_a_rate_that_is_none_is_refused(rate):
    (said,) = Pipeline(engine="argo", rate=rate).problems()
    assert said == f"rate {rate!r} is not like `30/hour` (second, minute, hour, day)"


# ---- parameters -----------------------------------------------------------------------------------------------------


def test_what_is_not_said_is_the_default():
    found = pipeline(
        top=Parameter(type="integer", default="5"), where=Parameter(), kind=Parameter(default="f1")
    )
    assert found.check({}) == {"top": "5", "where": "", "kind": "f1"}
    assert found.check({"top": "", "kind": "  ", "where": " x "}) == {
        "top": "5",
        "where": " x ",
        "kind": "f1",
    }


def test_every_problem_of_a_trigger_is_told_at_once():
    found = pipeline(
        source=Parameter(required=True, description="folder to read"),
        top=Parameter(type="integer", minimum=1, maximum=100),
        kind=Parameter(allowed=("exact", "f1")),
    )
    with pytest.raises(InvalidRequest) as caught:
        found.check({"source": " ", "top": "101", "kind": "f2", "colour": "red", "size": "46"})
    assert caught.value.message == (
        "pipeline test cannot be run so: unknown parameters: colour, size; there are: source, top, kind; "
        "source is missing (folder to read); top is 101, more than 100; kind is 'f2', not one of exact, f1"
    )


def test_a_pipeline_without_parameters_says_that_there_are_none():
    with pytest.raises(InvalidRequest, match="unknown parameters: x; there are: none"):
        pipeline().check({"x": "1"})


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", " as it is\n", " as it is\n"),
        ("integer", " 007 ", "7"),
        ("integer", "-3", "-3"),
        ("integer", "+3", "3"),
        ("number", " 0.50 ", "0.50"),
        ("number", "1e-3", "1e-3"),
        ("number", "+.5", ".5"),
        ("boolean", "YES", "true"),
        ("boolean", "1", "true"),
        ("boolean", " off ", "false"),
    ],
)
def test_a_value_comes_in_the_form_of_its_type(kind, given, value):
    assert pipeline(x=Parameter(type=kind)).check({"x": given}) == {"x": value}


@pytest.mark.parametrize(
    ("parameter", "given", "says"),
    [
        (Parameter(type="integer"), "5.0", "x is '5.0', not a whole number"),
        (Parameter(type="integer"), "1_000", "x is '1_000', not a whole number"),
        (Parameter(type="integer"), "١٢", "x is '١٢', not a whole number"),
        (Parameter(type="integer"), "9" * 5000, f"x is '{'9' * 64}', not a whole number"),
        (Parameter(type="number"), "nan", "x is 'nan', not a number"),
        (Parameter(type="number"), "-inf", "x is '-inf', not a number"),
        (Parameter(type="number"), "1e999", "x is '1e999', not a finite number"),
        (Parameter(type="number"), "1,5", "x is '1,5', not a number"),
        (Parameter(type="integer", minimum=1), "0", "x is 0, less than 1"),
        (Parameter(type="integer", maximum=1234567), "1234568", "x is 1234568, more than 1234567"),
        (Parameter(type="number", maximum=0.5), "0.51", "x is 0.51, more than 0.5"),
        (Parameter(type="boolean"), "maybe", "x is 'maybe', not true or false"),
        (Parameter(), "a\0b", "x has a NUL character"),
        (Parameter(), "a" * (MAX_VALUE_CHARS + 1), f"x is longer than {MAX_VALUE_CHARS} characters"),
        (Parameter(required=True), "", "x is missing"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_words(parameter, given, says):
    with pytest.raises(InvalidRequest) as caught:
        pipeline(x=parameter).check({"x": given})
    assert caught.value.message == f"pipeline test cannot be run so: {says}"


@pytest.mark.parametrize(
    ("parameter", "says"),
    [
        (Parameter(minimum=1), "parameter x has a minimum or maximum, but is a string"),
        (
            Parameter(type="integer", minimum=2, maximum=1),
            "parameter x has a minimum above its maximum, or one that is no number",
        ),
        (
            Parameter(type="number", maximum=float("nan")),
            "parameter x has a minimum above its maximum, or one that is no number",
        ),
        (
            Parameter(required=True, default="a"),
            "parameter x is required, so that its default is never used: say `required = false`",
        ),
        (
            Parameter(type="integer", allowed=("1", "two")),
            "parameter x allows what is 'two', not a whole number",
        ),
        (Parameter(type="integer", allowed=("1", "02")), "parameter x allows what is '2', not one of 1, 02"),
        (
            Parameter(type="boolean", default="maybe"),
            "parameter x has a default that is 'maybe', not true or false",
        ),
        (
            Parameter(allowed=("a", "b"), default="c"),
            "parameter x has a default that is 'c', not one of a, b",
        ),
        (
            Parameter(type="integer", minimum=1, default="0"),
            "parameter x has a default that is 0, less than 1",
        ),
    ],
)
def test_a_parameter_that_contradicts_itself_is_refused(parameter, says):
    assert pipeline(x=parameter).problems() == [says]


@pytest.mark.parametrize("name", ["", "a b", "-a", "a.b", "a" * 64, "ä"])
def test_a_name_of_a_parameter_that_engines_do_not_take_is_refused(name):
    (said,) = pipeline(**{name: Parameter()}).problems()
    assert said == f"parameter {name!r} may have letters, digits, dashes and underscores"


# ---- commands -------------------------------------------------------------------------------------------------------


def local(*command, **fields):
    return Pipeline(engine="local", name="test", command=command, **fields)


def test_a_command_may_name_parameters_anywhere_but_as_its_program():
    source = {"source": Parameter()}
    assert not local("echo", "{source}", "x={source}", parameters=source).problems()
    assert local("{source}", parameters=source).problems() == [
        "its command begins with a program, which is no parameter"
    ]
    assert local(" ", parameters=source).problems() == [
        "its command begins with a program, which is no parameter"
    ]


def test_a_command_that_names_an_unknown_parameter_is_refused():
    assert local("awk", "{print $1}", "{x}").problems() == [
        "its command names parameters that it does not have: print $1, x (braces that are meant so are doubled)"
    ]


@pytest.mark.parametrize("fields", [{"memory_mb": -1}, {"cpu_seconds": -1}, {"max_concurrent": -1}])
def test_limits_are_not_below_nothing(fields):
    (name,) = fields
    assert local("true", **fields).problems() == [f"{name} is below 0"]


def test_what_a_process_cannot_be_given_is_refused():
    assert local(
        "echo", "a\0b", environment={"A=B": "1", "C": "a\0b", "D_1": "fine", "": "1"}
    ).problems() == [
        "its command has a NUL character",
        "its environment cannot have 'A=B'",
        "its environment cannot have 'C'",
        "its environment cannot have ''",
    ]


def test_a_value_stays_one_argument_and_is_not_filled_in_again():
    values = {"a": "two words; {b} 'x' $HOME\n", "b": ""}
    assert filled(["echo", "{a}", "--x={a}", "{b}", "{b}{b}-"], values) == [
        "echo",
        values["a"],
        f"--x={values['a']}",
        "",
        "-",
    ]


def test_doubled_braces_are_braces():
    command = ['{{"a": {{"b": "{x}"}}}}', "{{x}}", "{{{x}}}", "a}", "{"]
    assert placeholders(command) == {"x"}
    assert filled(command, {"x": "1"}) == ['{"a": {"b": "1"}}', "{x}", "{1}", "a}", "{"]


@given(st.text(max_size=50))
def test_any_text_can_be_an_argument_with_its_braces_doubled(text):
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert placeholders([escaped]) == set()
    assert filled([escaped], {}) == [text]


@given(st.text(max_size=200))
def test_any_value_arrives_as_it_is(value):
    assert filled(["{x}"], {"x": value}) == [value]

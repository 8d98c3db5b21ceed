"""Texts of plant files with and without their secrets."""

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.core import InvalidError
from lineside.core.plant_check import plant_secrets, with_secrets, without_secrets

HIDDEN = "peeping"
TEXT = f"""# was rtsp://eye:{HIDDEN}@10.0.0.1/a
camera = [
    {{ id = "rack", source = 'rtsp://eye:{HIDDEN}@10.0.0.1/{HIDDEN}' }},
    {{ id = "gate", "source" = "rtsp://eye:other{HIDDEN}@10.0.0.1/a" }},
    {{ id = "shelf", source = "folder:shots" }},
]
[[webhook]]
name = "mes"
url = "https://mes.lan/{HIDDEN}"
headers = {{ X-Key = "{HIDDEN}", "Y-Key" = \"\"\"
{HIDDEN}\"\"\" }}
note = "http://a:{HIDDEN}@b.lan # no comment"
quote = \"\"\"he said "yes\"\"\"\"
literal = '''it's 'so''''
[["output"]]
id = "{chr(92)}u0061"
url = "mqtt://gate:{HIDDEN}@10.0.0.3"
"""


def test_no_secret_is_left_and_each_comes_back_to_its_place() -> None:
    shown = without_secrets(TEXT)
    assert HIDDEN not in shown
    assert shown.count("10.0.0.1") == TEXT.count("10.0.0.1")
    assert 'source = "folder:shots"' in shown
    assert without_secrets(shown) == shown
    assert with_secrets(shown, plant_secrets(TEXT)) == TEXT
    assert {one.name for one in plant_secrets(TEXT)} >= {
        "camera/rack", "camera/gate", "output/a", "webhook/mes", "webhook/mes/X-Key",
        "webhook/mes/Y-Key",
    }  # fmt: skip


def test_only_what_reads_as_before_gets_its_secret() -> None:
    shown = without_secrets(TEXT)
    moved = shown.replace(
        'rack", source = "rtsp://…@10.0.0.1', 'rack", source = "rtsp://…@10.0.0.9'
    )
    own = [one for one in plant_secrets(TEXT) if one.name in {"camera/rack", "camera/gate"}]
    text = with_secrets(moved, own)
    assert "rtsp://…@10.0.0.9" in text
    assert f"other{HIDDEN}" in text
    assert text.count(HIDDEN) == 1


@pytest.mark.parametrize("text", ["camera = 1", "camera = [1]", "[camera]\nsource = 1", "x = '…'"])
def test_a_text_that_is_no_plant_file_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_what_is_no_toml_is_refused_at_its_own_line() -> None:
    with pytest.raises(InvalidError, match="line 2"):
        without_secrets('a = "x"\nb = ')


@given(
    st.lists(st.tuples(st.sampled_from(["rtsp", "http", "mqtt"]), st.text(max_size=8)), max_size=4),
    st.text(max_size=20),
)
def test_any_text_comes_back_as_it_was(secrets: list[tuple[str, str]], note: str) -> None:
    lines = [f"note = {written(note)}"]
    for place, (scheme, secret) in enumerate(secrets):
        source = written(f"{scheme}://eye:{secret}@10.0.0.{place}/x?{secret}")
        lines += ["[[camera]]", f'id = "c{place}"', f"source = {source}  # {place}"]
    text = "\n".join(lines)
    shown = without_secrets(text)
    assert with_secrets(shown, plant_secrets(text)) == text
    assert [one["id"] for one in tomllib.loads(shown).get("camera", [])] == [
        f"c{place}" for place in range(len(secrets))
    ]


def written(text: str) -> str:
    return json.dumps(text.encode(errors="ignore").decode(), ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )

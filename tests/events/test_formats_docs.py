from pathlib import Path

from pathstats_pipeline.events.formats.fieldmap import load_map, shipped_maps
from pathstats_pipeline.events.formats.registry import FORMATS

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"


def test_every_format_and_map_is_documented() -> None:
    """The page on formats names each format, and each shipped map."""
    text = DOCS.read_text()

    assert [name for name in FORMATS if f"| `{name}` |" not in text] == []
    assert [field_map.name for field_map in shipped_maps() if f"**{field_map.name}**" not in text.lower()] == []


def test_the_documented_map_is_a_map(tmp_path: Path) -> None:
    """The example of a field map can be used as it stands."""
    example = DOCS.read_text().partition("```toml\n")[2].partition("```")[0]
    file = tmp_path / "mine.toml"
    file.write_text(example)

    assert load_map(file).columns["user_agent"] == (("request", "headers", "User-Agent", 0),)

"""Path templates: what folds to what, users' rules, and what never folds."""

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathstats_pipeline.events import templates
from pathstats_pipeline.events.templates import PathRule, PathRulesError, fold

UUID = "550e8400-e29b-41d4-a716-446655440000"

FOLDED = [
    ("/", "/"),
    ("*", "*"),
    ("/users/42", "/users/:id"),
    ("/users/42/", "/users/:id/"),
    ("/users/42/orders/7", "/users/:id/orders/:id"),
    ("/users/42?tab=1#top", "/users/:id"),
    ("/search?q=/users/42", "/search"),
    ("/2024/05/17/a-slug", "/:id/:id/:id/a-slug"),
    (f"/a/{UUID}", "/a/:uuid"),
    (f"/a/{UUID.upper()}/b", "/a/:uuid/b"),
    (f"/file-{UUID}.jpg", "/file-:uuid.jpg"),
    (f"/{UUID}_{UUID}", "/:uuid_:uuid"),
    ("/o/507f1f77bcf86cd799439011", "/o/:hex"),
    ("/o/0x507f1f77bcf86cd799439011", "/o/:hex"),
    ("/sha/" + "ab12" * 16 + ".tar.gz", "/sha/:hex.tar.gz"),
    ("/demo-7e683c2f7974b32a86bf0f97e45886f8", "/demo-:hex"),
    ("/demo_7e683c2f7974b32a86bf0f97e45886f8", "/demo_:hex"),
    ("/app.0123456789abcdef.js", "/app.:hex.js"),
    ("/feedfacefeedfacefeedfacer", "/feedfacefeedfacefeedfacer"),
    ("/o/0123456789abcde", "/o/0123456789abcde"),
    ("/o/" + "1" * 40, "/o/:id"),
    ("/u/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/u/:ulid"),
    ("/u/01arz3ndektsv4rrffq69g5fav", "/u/:ulid"),
    ("/u/81ARZ3NDEKTSV4RRFFQ69G5FAV", "/u/81ARZ3NDEKTSV4RRFFQ69G5FAV"),
    ("/d/2026-11-22", "/d/:date"),
    ("/d/2026-11-22.csv", "/d/:date.csv"),
    ("/d/2024-02-29", "/d/:date"),
    ("/d/2026-02-30", "/d/2026-02-30"),
    ("/d/2026-13-01", "/d/2026-13-01"),
    ("/d/2026-11", "/d/2026-11"),
    ("/d/20261122", "/d/:id"),
    ("/123.json", "/:id.json"),
    ("/123;param", "/:id;param"),
    ("/x;jsessionid=0123456789ABCDEF0123;v=7", "/x;jsessionid=:hex;v=:id"),
    ("/haproxy-status;csv;norefresh", "/haproxy-status;csv;norefresh"),
    ("/v2/page1/h264", "/v2/page1/h264"),
    ("/3.14/1.2.3.4", "/3.14/1.2.3.4"),
    ("/404.html", "/404.html"),
    ("/errors/500.htm", "/errors/500.htm"),
    ("/articles/404.html", "/articles/:id.html"),
    ("/Users/ABOUT", "/Users/ABOUT"),
    ("/%20/%41", "/%20/%41"),
    ("//phpMyAdmin//", "//phpMyAdmin//"),
    ("/caf\u00e9/\u0663\u0664", "/caf\u00e9/\u0663\u0664"),
    ("/line\nbreak/1\n/2", "/line\nbreak/1\n/:id"),
    (None, templates.INVALID_TEMPLATE),
    ("", templates.INVALID_TEMPLATE),
    ("?q", templates.INVALID_TEMPLATE),
    ("\x16\x03\x01", templates.INVALID_TEMPLATE),
    ("http://example.org/", templates.INVALID_TEMPLATE),
    ("__other__", templates.INVALID_TEMPLATE),
    ("/__other__", "/__other__"),
]


def test_the_table_of_templates() -> None:
    """Each path folds to the template beside it, in the order of rows."""
    paths = pl.Series("path", [path for path, _ in FOLDED] * 2, dtype=pl.String)
    assert fold(paths).to_list() == [template for _, template in FOLDED] * 2
    assert fold(paths).name == "path"


DOCUMENTED = (Path(__file__).parents[2] / "docs" / "paths.md").read_text("utf-8")


def test_the_documented_foldings_are_true() -> None:
    """Each row of the table in docs/paths.md."""
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", DOCUMENTED, re.MULTILINE)

    assert len(rows) > 10
    assert fold(pl.Series([path for path, _ in rows])).to_list() == [template for _, template in rows]


def test_the_documented_rules_file_works(tmp_path: Path) -> None:
    """It loads, and its first rule does what it says."""
    (tmp_path / "rules.toml").write_text(DOCUMENTED.split("```toml\n")[1].split("```")[0])
    rules = templates.load_rules(tmp_path / "rules.toml")

    assert fold(pl.Series(["/shop/42/reviews?page=2", "/blog/2026/11"]), rules).to_list() == [
        "/shop/:product/reviews",
        "/blog/:post",
    ]


def test_no_paths_fold_to_no_templates() -> None:
    """An empty series stays an empty String series."""
    assert fold(pl.Series("path", [], dtype=pl.String)).to_list() == []


path_texts = st.lists(st.sampled_from([*"/;=.?#-_aF09", UUID, "2026-11-22", "é", "\n"]), max_size=40).map("".join)


@given(st.lists(st.one_of(st.text(max_size=30), path_texts.map(lambda text: f"/{text}")), max_size=20))
def test_templates_are_stable_and_cannot_collide(texts: list[str]) -> None:
    """Folding twice changes nothing; a template begins with a slash, or is `*` or `__invalid__`; none is missing."""
    once = fold(pl.Series("path", texts, dtype=pl.String))
    valid = once.filter(once != templates.INVALID_TEMPLATE)
    assert fold(valid).to_list() == valid.to_list()
    assert all(each == "*" or each.startswith("/") for each in valid)
    assert once.len() == len(texts)


def test_long_paths_are_cut_to_the_same_template() -> None:
    """At most 512 characters, the last of which says that more came."""
    paths = pl.Series("path", ["/" + "x" * 511, "/" + "x" * 512, "/" + "x" * 9_000, "/é" * 300])
    found = fold(paths).to_list()
    assert found[0] == paths[0]
    assert found[1] == found[2] == "/" + "x" * 510 + "…"
    assert len(found[3]) == 512


def test_the_first_rule_that_matches_the_whole_path_wins() -> None:
    """Rules come before the built-in folding, in order, and see the path without query."""
    rules = (
        PathRule("/blog/[^/]+", "/blog/:slug"),
        PathRule("/blog/.*", "/blog/*"),
        PathRule("/a|/b", "/ab"),
        PathRule("/404.html", "/missing"),
    )
    paths = pl.Series(["/blog/x?y", "/blog/x/y", "/a", "/bc", "/blog/", "/404.html", "/u/7", None])
    assert fold(paths, rules).to_list() == [
        "/blog/:slug", "/blog/*", "/ab", "/bc", "/blog/*", "/missing", "/u/:id", templates.INVALID_TEMPLATE,
    ]  # fmt: skip


def test_rules_are_read_in_order(tmp_path: Path) -> None:
    """`[[rule]]` tables become rules; an empty file has none."""
    file = tmp_path / "rules.toml"
    file.write_text("[[rule]]\npattern = '/b/\\d+'\ntemplate = '/b/:n'\n[[rule]]\npattern = '/c'\ntemplate = '/d'\n")
    assert templates.load_rules(file) == (PathRule("/b/\\d+", "/b/:n"), PathRule("/c", "/d"))
    file.write_text("")
    assert templates.load_rules(file) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[rule]]\npattern='/a'\ntemplate='/a'\n[[rule]]\npattern='('\ntemplate='/x'",
            "rule 2: pattern '(' is no regular expression: unclosed group",
        ),
        ("[[rule]]\npattern='/a'", "rule 1: a rule has a pattern and a template, and nothing else"),
        ("[[rule]]\npattern='/a'\ntemplate='/a'\nnote='x'", "rule 1: a rule has a pattern and a template"),
        ("[[rule]]\npattern=1\ntemplate='/a'", "rule 1: pattern and template must be strings"),
        ("[[rule]]\npattern='/a'\ntemplate='__other__'", "rule 1: template '__other__' must begin with /"),
        ("rules = 1", "expected [[rule]] tables only, got rules"),
        ("rule = 1", "expected [[rule]] tables only"),
        ("rule = [1]", "rule 1: a rule has"),
        ("[[rule", "Expected ']]'"),
    ],
)
def test_a_wrong_rules_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """The line names the file, the rule and the error."""
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(PathRulesError) as caught:
        templates.load_rules(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_rules_file_is_refused_in_one_line(tmp_path: Path) -> None:
    """The line names the file."""
    with pytest.raises(PathRulesError, match=r"nowhere\.toml: No such file or directory$"):
        templates.load_rules(tmp_path / "nowhere.toml")

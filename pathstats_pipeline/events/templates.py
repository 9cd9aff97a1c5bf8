"""Path templates: which template a raw path is counted under. `/users/42` becomes `/users/:id`.

Case, percent-encoding, doubled and trailing slashes, names of path parameters and file extensions are kept; so are
`/v2`, `/page1`, versions (`/3.14`) and error pages (`/404.html`), which have few values and mean something. Years and
compact dates (`20261122`) are numbers, `:id`: a user's rule can say more.

Add a kind of segment to `_SEGMENTS`, with a row in its test's table. Work is done once for each distinct path, by
Polars expressions, never in a Python loop.
"""

import dataclasses
import functools
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

INVALID_TEMPLATE: Final = "__invalid__"
"""Counts requests whose path is NULL, empty, or begins with neither `/` nor `*`: binary probes, broken requests."""

OTHER_TEMPLATE: Final = "__other__"
"""Counts what the cap cuts off. No path folds to it: templates begin with `/`, save `*` and `INVALID_TEMPLATE`."""

MAX_TEMPLATE_CHARS: Final = 512

_DAY_OF_YEAR: Final = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))"
)
# A token is a segment with its slash, or a path parameter with its semicolon (and its name). What may follow the
# folded part: up to two file extensions.
_BEFORE: Final = "^(/|;(?:[^=]*=)?)"
_AFTER: Final = r"((?:\.[A-Za-z][A-Za-z0-9]{0,9}){0,2})$"
_SEGMENTS: Final = (
    ("[0-9]+", ":id"),
    (f"[0-9]{{4}}-{_DAY_OF_YEAR}", ":date"),
    ("(?:0[xX])?[0-9a-fA-F]{16,}", ":hex"),
    ("[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}", ":ulid"),
)
"""Whole segments (or parameter values) and what they fold to; the first match wins."""

_WITHIN: Final = (
    ("(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", ":uuid"),
    (r"[0-9a-fA-F]{32,}|\b[0-9a-fA-F]{16,}\b", ":hex"),
)
"""What folds inside of a segment too: `/file-<uuid>.jpg`, `/demo-<32 hex>`, `/app.<16 hex>.js`."""

_MAY_BE_SEGMENT: Final = "[/;=](?:[0-9]|[0-9a-fA-F]{16})"
"""Found in every path that has one of `_SEGMENTS`: they begin with a digit, or are long hex."""

_MAY_BE_WITHIN: Final = "[0-9a-fA-F]{16}|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-"
"""Found in every path that has one of `_WITHIN`."""

_ERROR_PAGE: Final = r"^/(?:errors?/)?[45][0-9]{2}\.s?html?$"


class PathRulesError(ValueError):
    """A rules file can't be used; the message is one line that names the rule."""


@dataclasses.dataclass(frozen=True)
class PathRule:
    """A user's rule: paths that match `pattern` as a whole are counted under `template`, taken literally."""

    pattern: str
    template: str


def load_rules(path: Path) -> tuple[PathRule, ...]:
    """Rules of a TOML file, in its order: `[[rule]]` tables with `pattern` (Rust regex) and `template`.

    Raises PathRulesError in one line that names the file, the number of the rule (from 1) and what is wrong.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PathRulesError(f"{path}: {_one_line(error)}") from error
    unknown = sorted(set(document) - {"rule"})
    tables = document.get("rule", [])
    if unknown or not isinstance(tables, list):
        raise PathRulesError(f"{path}: expected [[rule]] tables only, got {', '.join(unknown) or 'something else'}")
    rules = []
    for number, table in enumerate(tables, start=1):
        try:
            rules.append(_rule(table))
        except ValueError as error:
            raise PathRulesError(f"{path}: rule {number}: {error}") from error
    return tuple(rules)


def _rule(table: Any) -> PathRule:
    if not isinstance(table, dict) or set(table) != {"pattern", "template"}:
        raise ValueError("a rule has a pattern and a template, and nothing else")
    pattern, template = table["pattern"], table["template"]
    if not isinstance(pattern, str) or not isinstance(template, str):
        raise ValueError("pattern and template must be strings")  # noqa: TRY004 - all faults of a file are one kind
    if not template.startswith("/") or len(template) > MAX_TEMPLATE_CHARS:
        raise ValueError(f"template {template!r} must begin with / and have at most {MAX_TEMPLATE_CHARS} characters")
    try:
        pl.Series(["/"]).str.contains(_whole(pattern), strict=True)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression: {_one_line(error)}") from error
    return PathRule(pattern, template)


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The regex crate draws the place under the pattern, and says what is wrong in the line that follows.
    marked = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (marked or lines or [type(error).__name__])[0]


def fold(paths: pl.Series, rules: Sequence[PathRule] = ()) -> pl.Series:
    """Template [row] of each raw path [row]; never NULL, at most 512 characters.

    Query and fragment are dropped. The first rule that matches the whole path wins; else each segment and each value of
    a path parameter is folded on its own. Without rules, folding a template again changes nothing.
    """
    distinct = paths.unique()
    bare = distinct.str.replace(r"(?s)[?#].*$", "")
    folded = _fold_some(_fold_some(bare, _MAY_BE_SEGMENT, _fold_segments), _MAY_BE_WITHIN, _fold_within)
    template = pl.col("template")
    # One step after the other: within one expression, what is used twice would be computed twice.
    templates = (
        pl.DataFrame({"path": distinct, "bare": bare, "folded": folded})
        .select("path", template=_template(pl.col("bare"), pl.col("folded"), rules))
        .with_columns(
            template=pl.when(template.str.len_chars() > MAX_TEMPLATE_CHARS).then(_cut(template)).otherwise(template)
        )
    )
    return (
        paths.to_frame("path")
        .join(templates, on="path", how="left", nulls_equal=True, maintain_order="left")
        .get_column("template")
        .rename(paths.name)
    )


def _fold_some(values: pl.Series, pattern: str, fold_them: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Values, folded where the pattern is found: most have nothing to fold, and a search costs a tenth of folding."""
    chosen = values.str.contains(pattern).fill_null(value=False)
    if not chosen.any():
        return values
    # scatter changes the series that it is called on.
    return values.clone().scatter(chosen.arg_true(), fold_them(values.filter(chosen)))


def cap(rows: pl.DataFrame, within: Sequence[str], max_templates: int) -> pl.DataFrame:
    """Rows [path, requests, status_4xx, ...] with `__other__` in place of the templates beyond the cap.

    In each group of `within` those templates stay that have the most requests not answered 4xx, then the most
    requests, ties by name. What scanners probe is answered 4xx: however much of it there is, it comes last.
    """
    if rows["path"].n_unique() <= max_templates:
        return rows
    served = pl.col("requests") - pl.col("status_4xx")
    ranked = (
        rows.filter(pl.col("path") != OTHER_TEMPLATE)
        .group_by(*within, "path")
        .agg(served.sum().alias("served"), pl.col("requests").sum())
        .sort("served", "requests", "path", descending=[True, True, False])
    )
    position = pl.int_range(pl.len())
    # The join is with those that stay, which are few, not with those that go, which may be a million.
    kept = ranked.filter((position.over(within) if within else position) < max_templates)
    kept = kept.select(*within, "path", __kept__=pl.lit(value=True))
    return (
        rows.join(kept, on=[*within, "path"], how="left", maintain_order="left")
        .with_columns(path=pl.when(pl.col("__kept__")).then("path").otherwise(pl.lit(OTHER_TEMPLATE)))
        .drop("__kept__")
    )


def foldings(counts: pl.DataFrame, rules: Sequence[PathRule] = ()) -> pl.DataFrame:
    """What folds to what: template, requests, distinct raw paths, and the one of these that came most often.

    `counts` has distinct paths and their requests. Most requests first, ties by template (and by path).
    """
    return (
        counts.with_columns(template=fold(counts["path"], rules))
        .sort("requests", "path", descending=[True, False], nulls_last=True)
        .group_by("template", maintain_order=True)
        .agg(pl.col("requests").sum(), pl.len().cast(pl.Int64).alias("paths"), pl.col("path").first().alias("example"))
        .sort("requests", "template", descending=[True, False])
    )


def _template(bare: pl.Expr, folded: pl.Expr, rules: Sequence[PathRule]) -> pl.Expr:
    invalid = ~bare.str.starts_with("/").fill_null(value=False) & (bare != "*").fill_null(value=True)
    chosen: Any = pl.when(invalid).then(pl.lit(INVALID_TEMPLATE))
    for rule in rules:
        chosen = chosen.when(bare.str.contains(_whole(rule.pattern))).then(pl.lit(rule.template))
    kept = (bare == "*") | bare.str.contains(_ERROR_PAGE)
    template: pl.Expr = chosen.when(kept).then(bare).otherwise(folded)
    return template


def _cut(template: pl.Expr) -> pl.Expr:
    return pl.concat_str(template.str.head(MAX_TEMPLATE_CHARS - 1), pl.lit("…"))


def _fold_segments(paths: pl.Series) -> pl.Series:
    # Each token keeps its own delimiter, so that joining them again can't change anything else.
    tokens = pl.col("path").str.extract_all("[/;][^/;]*")
    folded = tokens.list.eval(pl.element().map_batches(_fold_tokens, pl.String, is_elementwise=True)).list.join("")
    return paths.to_frame("path").select(folded).to_series()


def _fold_tokens(tokens: pl.Series) -> pl.Series:
    for segment, template in _SEGMENTS:
        whole = f"{_BEFORE}{segment}{_AFTER}"
        tokens = _fold_some(tokens, whole, functools.partial(_replace, pattern=whole, by=f"${{1}}{template}${{2}}"))
    return tokens


def _fold_within(paths: pl.Series) -> pl.Series:
    for within, template in _WITHIN:
        paths = paths.str.replace_all(within, template)
    return paths


def _replace(values: pl.Series, pattern: str, by: str) -> pl.Series:
    return values.str.replace(pattern, by)

"""The API's description as one page that needs nothing from anywhere else: no script, no font, no host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
}
_STYLE = """
:root { color-scheme: light dark; --dim: light-dark(#57606a, #9aa4af); --line: light-dark(#d0d7de, #343b44);
  --back: light-dark(#fff, #14181d); --box: light-dark(#f6f8fa, #1c2229); --link: light-dark(#0b5cad, #6cb0f5); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; background: var(--back); max-width: 56rem; margin: 0 auto;
  padding: 1rem; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
a { color: var(--link); } code, pre { font: 0.875em/1.5 ui-monospace, monospace; }
pre { background: var(--box); padding: 0.75rem; overflow-x: auto; border-radius: 6px; }
section { margin: 2rem 0; } .dim { color: var(--dim); } .method { display: inline-block; min-width: 3.5rem; }
h3 code { font-size: 1rem; overflow-wrap: anywhere; } .wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; font-weight: 600; padding: 0.5rem 0; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0;
  border-top: 1px solid var(--line); } th { font-weight: 600; }
"""


def render(description: Mapping[str, Any]) -> str:
    """The page for an OpenAPI description."""
    info = description["info"]
    title = escape(f"{info['title']} {info['version']}")
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: HTTP API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
    )
    about = "".join(f"<p>{_text(part)}</p>" for part in info["description"].split("\n\n"))
    operations = "".join(
        _operation(method, path, found)
        for path, methods in description["paths"].items()
        for method, found in methods.items()
    )
    schemas = "".join(
        _schema(name, schema) for name, schema in sorted(description["components"]["schemas"].items())
    )
    return (
        f"{head}<body><main><h1>{title}: HTTP API</h1>{about}"
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a>.</p>'
        f"<h2>Calls</h2>{operations}<h2>Schemas</h2>{schemas}</main></body></html>"
    )


def _operation(method: str, path: str, found: Mapping[str, Any]) -> str:
    name = escape(found["operationId"])
    parts = [
        f'<section id="{name}"><h3><code><span class="method">{method.upper()}</span> {escape(path)}</code></h3>',
        f"<p><b>{escape(found['summary'])}.</b> {_text(found.get('description', ''))}</p>",
    ]
    if "parameters" in found:
        rows = (
            (
                f"<code>{escape(p['name'])}</code>",
                f"{escape(p['in'])}, {_kind(p['schema'])}",
                _text(p.get("description", "")),
            )
            for p in found["parameters"]
        )
        parts.append(_table("Parameters", ("name", "where, kind", "meaning"), rows))
    if "requestBody" in found:
        content = found["requestBody"]["content"]["application/json"]
        parts.append(f"<p>Body: {_kind(content['schema'])}</p>")
    answers = ((escape(status), _answer(answer)) for status, answer in found["responses"].items())
    parts.append(_table("Answers", ("status", "content"), answers))
    return "".join(parts) + "</section>"


def _answer(answer: Mapping[str, Any]) -> str:
    kinds = (
        f"<code>{escape(media)}</code> {_kind(content.get('schema', {}))}"
        for media, content in answer.get("content", {}).items()
    )
    return f"{escape(answer['description'])}<br>{'<br>'.join(kinds)}"


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    head = f'<section id="schema-{escape(name)}"><h3>{escape(name)}</h3><p>{_text(schema.get("description", ""))}</p>'
    if "enum" in schema:
        return f"{head}<p>One of {', '.join(f'<code>{escape(str(v))}</code>' for v in schema['enum'])}.</p></section>"
    needed = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(key)}</code>",
            _kind(value) + (", needed" if key in needed else ""),
            _text(value.get("description", "")) + _example(value),
        )
        for key, value in schema.get("properties", {}).items()
    )
    return f"{head}{_table('', ('name', 'kind', 'meaning'), rows)}</section>"


def _example(value: Mapping[str, Any]) -> str:
    found = [e for e in value.get("examples", ()) if e is not None]
    return (
        f' <span class="dim">For example <code>{escape(json.dumps(found[0]))}</code>.</span>' if found else ""
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in words, with links to those that have a name."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#schema-{name}">{name}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_kind(part) for part in schema[key])
    kind = escape(str(schema.get("type", "")))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return kind


def _table(caption: str, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    title = f"<caption>{caption}</caption>" if caption else ""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _text(text: str) -> str:
    """Plain words, with `code` between backquotes."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))

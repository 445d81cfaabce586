"""Whether a program that was written for one contract goes on under another: two OpenAPI descriptions, side by side.

Whatever could be sent may still be sent, and whatever is answered is what was described, perhaps with more beside it.
Schemas are compared by what they say, so what they do not say here (`default`, `title`, `description`) may change.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

_LEAST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_MOST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_SAME: Final = ("pattern", "format", "contentEncoding")
_KNOWN: Final = frozenset(
    {"$ref", "anyOf", "oneOf", "enum", "type", "properties", "required", "items", "prefixItems", "additionalProperties"}
    | {"propertyNames", "default", "title", "description", "discriminator", *_SAME, *_LEAST, *_MOST}
)
"""What schemas consist of. Another word would have to be compared."""


def breaks(old: Json, new: Json) -> list[str]:
    """What a program that was written for the old description would miss under the new one."""
    return sorted(_breaks(old, new))


def _breaks(old: Json, new: Json) -> Iterator[str]:
    for path, methods in old["paths"].items():
        for method, was in methods.items():
            line = f"{method.upper()} {path}"
            now = new["paths"].get(path, {}).get(method)
            if now is None:
                yield f"{line} is gone"
                continue
            yield from (f"{line}: {what}" for what in _sent(old, new, was, now))
            yield from (f"{line}: {what}" for what in _answered(old, new, was, now))


def _sent(old: Json, new: Json, was: Json, now: Json) -> Iterator[str]:
    before, after = (
        {(each["name"], each["in"]): each for each in operation.get("parameters", [])} for operation in (was, now)
    )
    for key, parameter in before.items():
        if key not in after:
            yield f"`{key[0]}` may not be sent any more"
        elif what := _differs(after[key]["schema"], new, parameter["schema"], old):
            yield f"`{key[0]}`: {what}"
    for key, parameter in after.items():
        if parameter["required"] and not before.get(key, {}).get("required"):
            yield f"`{key[0]}` has to be sent"
    if "requestBody" in was and "requestBody" not in now:
        yield "no body may be sent any more"
    for media, body in was.get("requestBody", {}).get("content", {}).items():
        there = now.get("requestBody", {}).get("content", {}).get(media)
        if there is None:
            yield f"{media} may not be sent any more"
        elif what := _differs(there["schema"], new, body["schema"], old):
            yield f"body: {what}"
    if now.get("requestBody", {}).get("required") and not was.get("requestBody", {}).get("required"):
        yield "a body has to be sent"


def _answered(old: Json, new: Json, was: Json, now: Json) -> Iterator[str]:
    for status, answer in now["responses"].items():
        described = was["responses"].get(status, was["responses"]["default"])
        for media, content in answer["content"].items():
            if media not in described["content"]:
                yield f"{status} is answered as {media}"
            elif what := _differs(described["content"][media]["schema"], old, content["schema"], new, is_kept=True):
                yield f"{status}: {what}"


def _differs(wide: Json, of_wide: Json, narrow: Json, of_narrow: Json, *, is_kept: bool = False) -> str:
    """Why not everything that the narrow schema describes is described by the wide one, or empty where it is. With
    `is_kept` the narrow one has to tell of each member of which the wide one does."""
    seen: set[tuple[str, str]] = set()

    def differs(wide: Json, narrow: Json) -> str:
        names = (str(wide.get("$ref")), str(narrow.get("$ref")))
        if names in seen:
            return ""
        if "$ref" in wide and "$ref" in narrow:
            seen.add(names)
        wide, narrow = _resolved(wide, of_wide), _resolved(narrow, of_narrow)
        assert set(wide) | set(narrow) <= _KNOWN, set(wide) | set(narrow)
        if several := narrow.get("anyOf", narrow.get("oneOf")):
            return next((what for each in several if (what := differs(wide, each))), "")
        if several := wide.get("anyOf", wide.get("oneOf")):
            found = [differs(each, narrow) for each in several]
            return "" if "" in found else found[0] if len(found) == 1 else f"none of {len(found)} shapes has {found}"
        if "enum" in wide:
            more = [each for each in narrow.get("enum", [narrow]) if each not in wide["enum"]]
            return f"not only {wide['enum']}, but {more}" if more else ""
        if "enum" in narrow:
            kinds = {"string" if isinstance(each, str) else "integer" for each in narrow["enum"]}
            return "" if not _types(wide) or kinds <= _types(wide) else f"{kinds}, and not {_types(wide)}"
        if _types(wide) and not _types(narrow) <= _types(wide):
            return f"{sorted(_types(narrow)) or 'anything'}, and not {sorted(_types(wide))}"
        return bounds(wide, narrow) or members(wide, narrow) or elements(wide, narrow)

    def bounds(wide: Json, narrow: Json) -> str:
        for name in _LEAST:
            if name in wide and not narrow.get(name, float("-inf")) >= wide[name]:
                return f"{name} {wide[name]}"
        for name in _MOST:
            if name in wide and not narrow.get(name, float("inf")) <= wide[name]:
                return f"{name} {wide[name]}"
        return next((name for name in _SAME if name in wide and wide[name] != narrow.get(name)), "")

    def members(wide: Json, narrow: Json) -> str:
        there, other = wide.get("properties", {}), narrow.get("properties", {})
        if missing := set(wide.get("required", ())) - set(narrow.get("required", ())):
            return f"without {sorted(missing)}"
        if is_kept and (gone := set(there) - set(other)):
            return f"{sorted(gone)} is gone"
        if "propertyNames" in wide and (what := differs(wide["propertyNames"], narrow.get("propertyNames", {}))):
            return f"names: {what}"
        rest = wide.get("additionalProperties", True)
        for name, schema in other.items():
            if name in there:
                what = differs(there[name], schema)
            elif rest is False:
                what = "is not known"
            else:
                what = "" if rest is True else differs(rest, schema)
            if what:
                return f"{name}: {what}"
        if isinstance(rest, dict) and isinstance(narrow.get("additionalProperties"), dict):
            return differs(rest, narrow["additionalProperties"])
        return ""

    def elements(wide: Json, narrow: Json) -> str:
        for one, other in zip(wide.get("prefixItems", ()), narrow.get("prefixItems", ()), strict=False):
            if what := differs(one, other):
                return f"element: {what}"
        if isinstance(wide.get("items"), dict) and isinstance(narrow.get("items"), dict):
            what = differs(wide["items"], narrow["items"])
            return f"each: {what}" if what else ""
        return ""

    return differs(wide, narrow)


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _types(schema: Json) -> set[str]:
    named = schema.get("type", [])
    found = {named} if isinstance(named, str) else set(named)
    return found | {"integer"} if "number" in found else found

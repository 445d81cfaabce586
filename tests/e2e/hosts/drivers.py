"""How each real host is made ready and run with a scripted model, as data and a few lines a host.

    files       what stands in its HOME before Parler comes: the model server's address, a login that needs no network
    connect     Parler's entry, by `parler connect` where it knows the host
    allow       the person's consent to exactly these tools
    words       the command line of a run with a first prompt, and of one that goes on with the conversation
    block       the call of one of our tools as the model of this host says it; `finds` the host's own step before it

Not here: which release is run (`programs`), the HOME (`sandbox`), what the model says (the tests). Every fact was seen
with the release in `programs`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from tests.e2e.hosts.programs import find
from tests.e2e.hosts.sandbox import Sandbox
from tests.support.dialects.blocks import Block, Request, calls
from tests.support.processes import NONE, Variables

Files = Mapping[str, str]
Unit = Literal["bytes", "characters", "json"]


_OURS: Final = "parler_recv"
_SEARCHES: Final = ("tool_search", "ToolSearch", "search_tool")


class Driver:
    """One host. `page` is how much of one result arrives whole, in `unit`."""

    program: str
    page: int
    unit: Unit = "characters"
    tool: str = "mcp__parler__{}"
    """What a model of this host calls our tool."""

    @property
    def host(self) -> str:
        """The id of the host that it is."""
        return find(self.program).host

    def files(self, url: str, folder: Path) -> Files:
        """What stands in HOME, by path."""
        del url, folder
        return {}

    def variables(self, url: str) -> Variables:
        """What the host's environment says beside HOME, PATH and the terminal."""
        del url
        return NONE

    def connect(self, sandbox: Sandbox) -> None:
        """Parler's entry in the host's own file."""
        sandbox.wire()

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        """The person lets the host call these tools unasked, and no other."""

    def words(self, prompt: str) -> Sequence[str]:
        """A run without a terminal."""
        raise NotImplementedError

    def again(self, prompt: str) -> Sequence[str]:
        """One that goes on with the conversation of the run before."""
        raise NotImplementedError

    def block(self, call: Block) -> Block:
        """A call of one of our tools, as this host names it."""
        return Block(tool=self.tool.format(call.tool), arguments=call.arguments)

    def finds(self, request: Request, tool: str) -> Block | None:
        """What the model says first where the tool is not offered yet; None where the tool is there."""
        del request, tool
        return None

    def is_turn(self, request: Request) -> bool:
        """Whether a request is one of the conversation, and not one that the host makes beside it."""
        return any(tool.endswith(_OURS) or tool in _SEARCHES for tool in request.tools)

    def text(self, result: str) -> str:
        """The text of our answer in what the model is given."""
        return result


class ClaudeCode(Driver):
    program = "claude"
    page = 48_000

    def files(self, url: str, folder: Path) -> Files:
        del url, folder
        return {".claude.json": "{}"}

    def variables(self, url: str) -> Variables:
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "of-no-use"}

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        names = [self.tool.format(tool) for tool in tools]
        sandbox.writes(".claude/settings.json", json.dumps({"permissions": {"allow": names}}))

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", "--", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("-p", "--continue", "--", prompt)


class Codex(Driver):
    program = "codex"
    page = 11_500
    unit = "bytes"
    tool = "{}"

    def files(self, url: str, folder: Path) -> Files:
        del folder
        return {
            ".codex/config.toml": f"""\
model = "gpt-5"
model_provider = "scripted"

[analytics]
enabled = false

[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
wire_api = "responses"
"""
        }

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        tables = [f'\n[mcp_servers.parler.tools.{tool}]\napproval_mode = "approve"\n' for tool in tools]
        with sandbox.file.open("a", encoding="utf-8") as file:
            file.write("".join(tables))

    def words(self, prompt: str) -> Sequence[str]:
        return ("exec", "--skip-git-repo-check", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("exec", "resume", "--last", "--skip-git-repo-check", prompt)

    def block(self, call: Block) -> Block:
        return Block(tool=call.tool, arguments=call.arguments, space="mcp__parler")

    def text(self, result: str) -> str:
        # It says first how long the call took.
        return result.partition("\nOutput:\n")[2] if result.startswith("Wall time: ") else result


class GeminiCli(Driver):
    program = "gemini"
    page = 39_000
    tool = "mcp_parler_{}"

    def files(self, url: str, folder: Path) -> Files:
        del url
        settings = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False},
        }
        return {
            ".gemini/settings.json": json.dumps(settings),
            ".gemini/trustedFolders.json": json.dumps({str(folder): "TRUST_FOLDER"}),
        }

    def variables(self, url: str) -> Variables:
        return {"GEMINI_API_KEY": "of-no-use", "GOOGLE_GEMINI_BASE_URL": url}

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        rule = {"mcpName": "parler", "toolName": list(tools), "decision": "allow", "priority": 100}
        lines = [f"{name} = {json.dumps(value)}" for name, value in rule.items()]
        sandbox.writes(".gemini/policies/parler.toml", "\n".join(["[[rule]]", *lines, ""]))

    def words(self, prompt: str) -> Sequence[str]:
        return ("-m", "gemini-2.5-pro", "-p", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("-m", "gemini-2.5-pro", "--resume", "latest", "-p", prompt)

    def text(self, result: str) -> str:
        return result.removeprefix("<untrusted_context>\n").removesuffix("\n</untrusted_context>")


class OpenCode(Driver):
    program = "opencode"
    page = 50_000
    unit = "bytes"
    tool = "parler_{}"
    file = ".config/opencode/opencode.jsonc"

    def files(self, url: str, folder: Path) -> Files:
        del folder
        provider = {"anthropic": {"options": {"baseURL": f"{url}/v1", "apiKey": "of-no-use"}}}
        settings = {
            "provider": provider,
            "enabled_providers": ["anthropic"],
            "model": "anthropic/claude-sonnet-4-5",
            "agent": {"title": {"disable": True}},
            "mcp": {},
        }
        return {self.file: json.dumps(settings, indent=2)}

    def variables(self, url: str) -> Variables:
        del url
        return {"OPENCODE_DISABLE_MODELS_FETCH": "1"}

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        rules = {"*": "ask", **{self.tool.format(tool): "allow" for tool in tools}}
        sandbox.changes(sandbox.file, permission=rules)

    def words(self, prompt: str) -> Sequence[str]:
        return ("run", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("run", "--continue", prompt)


class Kilo(OpenCode):
    program = "kilo"
    file = ".config/kilo/kilo.jsonc"

    def variables(self, url: str) -> Variables:
        del url
        return {
            "KILO_DISABLE_MODELS_FETCH": "1",
            "KILO_DISABLE_CODEBASE_INDEXING": "1",
            "KILO_DISABLE_AUTOUPDATE": "1",
            "KILO_DISABLE_SESSION_INGEST": "1",
            "KILO_TELEMETRY_LEVEL": "off",
        }


class QwenCode(Driver):
    program = "qwen"
    page = 27_000

    def files(self, url: str, folder: Path) -> Files:
        del url, folder
        settings = {
            "security": {"auth": {"selectedType": "openai"}},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False},
        }
        return {".qwen/settings.json": json.dumps(settings)}

    def variables(self, url: str) -> Variables:
        return {"OPENAI_API_KEY": "of-no-use", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": "scripted"}

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        sandbox.changes(sandbox.file, permissions={"allow": [self.tool.format(tool) for tool in tools]})

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("--continue", "-p", prompt)

    def finds(self, request: Request, tool: str) -> Block | None:
        name = self.tool.format(tool)
        seen = any(name in result for result in request.results)
        return None if seen else calls("tool_search", query=f"select:{name}")

    def block(self, call: Block) -> Block:
        return calls("tool_call", name=self.tool.format(call.tool), arguments=dict(call.arguments))


class Copilot(Driver):
    program = "copilot"
    page = 20_000
    unit = "bytes"
    tool = "parler-{}"

    def files(self, url: str, folder: Path) -> Files:
        del url, folder
        return {".copilot/config.json": "{}"}

    def variables(self, url: str) -> Variables:
        return {"COPILOT_PROVIDER_BASE_URL": f"{url}/v1", "COPILOT_MODEL": "gpt-4", "COPILOT_OFFLINE": "true"}

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        approvals = [{"kind": "mcp", "serverName": "parler", "toolName": tool} for tool in tools]
        locations = {str(sandbox.folder): {"tool_approvals": approvals}}
        sandbox.writes(".copilot/permissions-config.json", json.dumps({"locations": locations}))

    def words(self, prompt: str) -> Sequence[str]:
        return ("--no-color", "-p", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("--no-color", "--continue", "-p", prompt)


class ClineCli(Driver):
    program = "cline"
    page = 7_500
    unit = "json"
    tool = "parler__{}"

    def files(self, url: str, folder: Path) -> Files:
        del folder
        provider = {"provider": "openai-compatible", "apiKey": "of-no-use", "model": "scripted", "baseUrl": f"{url}/v1"}
        known = {"settings": provider, "updatedAt": "2026-11-28T00:00:00.000Z", "tokenSource": "manual"}
        providers = {"version": 1, "lastUsedProvider": "openai-compatible", "modes": {}}
        return {
            ".cline/data/settings/cline_mcp_settings.json": json.dumps({"mcpServers": {}}),
            ".cline/data/settings/providers.json": json.dumps({**providers, "providers": {"openai-compatible": known}}),
        }

    def words(self, prompt: str) -> Sequence[str]:
        return ("--json", "-P", "openai-compatible", prompt)

    def text(self, result: str) -> str:
        return "".join(part["text"] for part in json.loads(result)["content"])


class Droid(Driver):
    program = "droid"
    page = 39_000
    tool = "parler___{}"

    def files(self, url: str, folder: Path) -> Files:
        del folder
        model = {
            "model": "scripted",
            "displayName": "scripted",
            "baseUrl": f"{url}/v1",
            "apiKey": "of-no-use",
            "provider": "generic-chat-completion-api",
            "maxOutputTokens": 8192,
        }
        return {".factory/settings.json": json.dumps({"customModels": [model]})}

    def variables(self, url: str) -> Variables:
        del url
        return {"FACTORY_AIRGAP_ENABLED": "true", "FACTORY_DROID_AUTO_UPDATE_ENABLED": "false"}

    def words(self, prompt: str) -> Sequence[str]:
        return ("exec", "-m", "custom:scripted-0", prompt)

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        levels = {"parler": {"tools": dict.fromkeys(tools, "low")}}
        sandbox.changes(sandbox.somebody.user / ".factory" / "settings.json", mcpAutonomyOverrides=levels)

    def finds(self, request: Request, tool: str) -> Block | None:
        name = self.tool.format(tool)
        return None if name in request.tools else calls("ToolSearch", query=f"select:{name}")


class Grok(Driver):
    program = "grok"
    page = 19_500
    unit = "bytes"
    tool = "parler__{}"

    def files(self, url: str, folder: Path) -> Files:
        del folder
        return {
            ".grok/config.toml": f"""\
[models]
default = "scripted"

[model.scripted]
model = "scripted"
base_url = "{url}/v1"
api_key = "of-no-use"
context_window = 200000
"""
        }

    def variables(self, url: str) -> Variables:
        del url
        return {"GROK_DISABLE_AUTOUPDATER": "1", "GROK_TELEMETRY_ENABLED": "0"}

    def allow(self, sandbox: Sandbox, tools: Sequence[str]) -> None:
        rules = [f"MCPTool({self.tool.format(tool)})" for tool in tools]
        sandbox.writes(".grok/config.toml", f"\n[permission]\nallow = {json.dumps(rules)}\n", more=True)

    def finds(self, request: Request, tool: str) -> Block | None:
        seen = any(self.tool.format(tool) in result for result in request.results)
        return None if seen else calls("search_tool", query=tool.replace("_", " "), limit=10)

    def block(self, call: Block) -> Block:
        return calls("use_tool", tool_name=self.tool.format(call.tool), tool_input=dict(call.arguments))

    def is_turn(self, request: Request) -> bool:
        # After a turn it asks the model for a line about it.
        return super().is_turn(request) and not request.users[-1].startswith("<system-reminder>Write an ultra-short")

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", prompt)


class Kimi(Driver):
    program = "kimi"
    page = 49_000

    def variables(self, url: str) -> Variables:
        return {
            "KIMI_MODEL_NAME": "scripted",
            "KIMI_MODEL_API_KEY": "of-no-use",
            "KIMI_MODEL_PROVIDER_TYPE": "openai",
            "KIMI_MODEL_BASE_URL": f"{url}/v1",
            "KIMI_CODE_NO_AUTO_UPDATE": "1",
        }

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", prompt)

    def again(self, prompt: str) -> Sequence[str]:
        return ("--continue", "-p", prompt)

    def text(self, result: str) -> str:
        # It says first how long the call took.
        return result.partition("\n")[2] if result.startswith("Wall time: ") else result


DRIVERS: Final[tuple[Driver, ...]] = (
    ClaudeCode(),
    Codex(),
    GeminiCli(),
    OpenCode(),
    QwenCode(),
    Copilot(),
    ClineCli(),
    Kilo(),
    Droid(),
    Grok(),
    Kimi(),
)

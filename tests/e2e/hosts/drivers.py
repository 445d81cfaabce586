"""How each real host is made ready and run with a scripted model, as data and a few lines a host.

    files       what stands in its HOME before Parler comes: the model server's address, a login that needs no network
    connect     Parler's entry and the person's consent, both by `parler connect --allow`
    words       the command line of a run with a first prompt, and of one that goes on with the conversation
    block       the call of one of our tools as the model of this host says it; `finds` the host's own step before it

Not here: which release is run (`programs`), the HOME (`sandbox`), what the model says (the tests). Every fact was seen
with the release in `programs`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from configs.model import MESSAGING
from tests.e2e.hosts.programs import find
from tests.e2e.hosts.sandbox import Sandbox
from tests.support.dialects.blocks import Block, Request, calls, says
from tests.support.processes import NONE, Variables

Files = Mapping[str, str]

CONVERSATION: Final = "5c4c8f6e-2f0b-4f52-9d0e-6a0d5a3f1c01"
"""For hosts that let themselves be told the id of a conversation."""
_OURS: Final = "parler_recv"
_SUMMARISES: Final = (
    "CRITICAL: Respond with TEXT ONLY. Do NOT call any tools.",
    "Create a detailed summary",
    "Critically evaluate the <state_snapshot>",
    "Generate a new <state_snapshot>",
    "First, reason in your <analysis> block.",
    "Here is the conversation so far:",
    "Please create a detailed summary of the conversation so far.",
    "Summarize this session for continuation.",
    "Please summarize the following conversation:",
    "Summarize this session for continuation.",
    "You are about to run out of context. Create a handoff summary",
    "You are performing a CONTEXT CHECKPOINT COMPACTION.",
    "You are the component that summarizes",
    "Your task is to produce a faithful, concise summary",
)
"""How the request for a summary begins in each of the hosts."""
SUMMARY: Final = (
    f"<summary>{' '.join(f'Something was read, and {n} things were said of it.' for n in range(30))}</summary>"
)
"""Long enough for hosts that doubt a short one, and no sentence twice, because one host ends a turn that goes round."""
_SEARCHES: Final = ("tool_search", "ToolSearch", "search_tool")


def is_ours(tool: str) -> bool:
    """Whether a tool is one of Parler's, by its own name."""
    return tool.startswith("parler_")


class Driver:
    """One host."""

    program: str
    tool: str = "mcp__parler__{}"
    """What a model of this host calls our tool."""
    asks: str = ""
    """What this host prints at a terminal when it can be asked, where no word of its command line is a first prompt."""
    subcommand: int = 0
    """How many words of a run without a terminal stand before its options."""

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
        """Parler's entry in the host's own file, and the person's consent to the tools that read and talk."""
        sandbox.allow()

    def words(self, prompt: str) -> Sequence[str]:
        """A run without a terminal."""
        raise NotImplementedError

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        """One that goes on with the conversation of the run before, which HOME may have to be asked for. A host that
        has no such run begins a new one in the same place."""
        del home
        return self.words(prompt)

    def beside(self, prompt: str, window: str) -> Sequence[str]:
        """A run in a conversation of its own, while others run. `window` tells them apart."""
        del window
        return self.words(prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        """A run at a terminal, with a first prompt, where the command line can have one. None for a host that was never
        seen at work there."""
        del prompt
        raise NotImplementedError

    def terminal_files(self, home: Path, folder: Path) -> Files:
        """What has to stand in HOME before a run at a terminal, by path: answers to what the host asks the person
        first. `Sandbox.connect` has been there."""
        del home, folder
        return {}

    def block(self, call: Block) -> Block:
        """A call of one of our tools, as this host names it; one of its own stays as it is."""
        return Block(tool=self.tool.format(call.tool), arguments=call.arguments) if is_ours(call.tool) else call

    def finds(self, request: Request, tool: str) -> Block | None:
        """What the model says first where the tool is not offered yet; None where the tool is there."""
        del request, tool
        return None

    def is_turn(self, request: Request) -> bool:
        """Whether a request is one of the conversation, and not one that the host makes beside it. Some hosts offer
        their tools with the request for a summary as well, and make it while the conversation goes on."""
        offers = any(tool.endswith(_OURS) or tool in _SEARCHES for tool in request.tools)
        return offers and not self.is_summary(request)

    def is_summary(self, request: Request) -> bool:
        """Whether the host makes a summary of the conversation with this request, and no turn."""
        return bool(request.users) and request.users[-1].startswith(_SUMMARISES)

    def aside(self, request: Request) -> Sequence[Block]:
        """What the model says to a request that is no turn."""
        return (says(SUMMARY if self.is_summary(request) else "done"),)

    def text(self, result: str) -> str:
        """The text of our answer in what the model is given."""
        return result


class ClaudeCode(Driver):
    program = "claude"

    def files(self, url: str, folder: Path) -> Files:
        del url, folder
        return {".claude.json": "{}"}

    def variables(self, url: str) -> Variables:
        return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "of-no-use"}

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", "--session-id", CONVERSATION, "--", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        # With `--continue` it gives its servers another id than the conversation has.
        return ("-p", "--resume", CONVERSATION, "--", prompt)

    def beside(self, prompt: str, window: str) -> Sequence[str]:
        return ("-p", "--session-id", str(uuid.uuid5(uuid.UUID(CONVERSATION), window)), "--", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("--session-id", CONVERSATION, prompt)

    def terminal_files(self, home: Path, folder: Path) -> Files:
        settings = json.loads((home / ".claude.json").read_text(encoding="utf-8"))
        settings["hasCompletedOnboarding"] = True
        settings["customApiKeyResponses"] = {"approved": ["of-no-use"], "rejected": []}
        settings.setdefault("projects", {})[str(folder)] = {"hasTrustDialogAccepted": True}
        return {".claude.json": json.dumps(settings)}


class Codex(Driver):
    program = "codex"
    tool = "{}"
    subcommand = 1

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

    def words(self, prompt: str) -> Sequence[str]:
        return ("exec", "--skip-git-repo-check", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("exec", "resume", "--last", "--skip-git-repo-check", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("--no-daemon", prompt)

    def terminal_files(self, home: Path, folder: Path) -> Files:
        trusted = f'\n[projects."{folder}"]\ntrust_level = "trusted"\n'
        before = (home / ".codex/config.toml").read_text(encoding="utf-8")
        return {".codex/config.toml": before if trusted in before else before + trusted}

    def block(self, call: Block) -> Block:
        return Block(tool=call.tool, arguments=call.arguments, space="mcp__parler")

    def text(self, result: str) -> str:
        # It says first how long the call took.
        return result.partition("\nOutput:\n")[2] if result.startswith("Wall time: ") else result


class GeminiCli(Driver):
    program = "gemini"
    tool = "mcp_parler_{}"

    def files(self, url: str, folder: Path) -> Files:
        del url
        settings = {
            "security": {"auth": {"selectedType": "gemini-api-key"}},
            # Else it asks a model which model to ask, and this one does not know.
            "model": {"name": "gemini-2.5-pro"},
            "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False},
        }
        return {
            ".gemini/settings.json": json.dumps(settings),
            ".gemini/trustedFolders.json": json.dumps({str(folder): "TRUST_FOLDER"}),
        }

    def variables(self, url: str) -> Variables:
        return {"GEMINI_API_KEY": "of-no-use", "GOOGLE_GEMINI_BASE_URL": url}

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("--resume", "latest", "-p", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("-i", prompt)

    def text(self, result: str) -> str:
        return result.removeprefix("<untrusted_context>\n").removesuffix("\n</untrusted_context>")


class OpenCode(Driver):
    program = "opencode"
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

    def words(self, prompt: str) -> Sequence[str]:
        return ("run", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("run", "--continue", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("--prompt", prompt)


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

    def words(self, prompt: str) -> Sequence[str]:
        return ("-p", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("--continue", "-p", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("-i", prompt)


class Copilot(Driver):
    program = "copilot"
    tool = "parler-{}"

    def files(self, url: str, folder: Path) -> Files:
        del url, folder
        return {".copilot/config.json": "{}"}

    def variables(self, url: str) -> Variables:
        return {"COPILOT_PROVIDER_BASE_URL": f"{url}/v1", "COPILOT_MODEL": "gpt-4", "COPILOT_OFFLINE": "true"}

    def words(self, prompt: str) -> Sequence[str]:
        return ("--no-color", *self._allowed(), "-p", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("--no-color", *self._allowed(), "--continue", "-p", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("--no-color", *self._allowed(), "-i", prompt)

    def terminal_files(self, home: Path, folder: Path) -> Files:
        settings = json.loads((home / ".copilot/config.json").read_text(encoding="utf-8"))
        return {".copilot/config.json": json.dumps({**settings, "trustedFolders": [str(folder)]})}

    def _allowed(self) -> list[str]:
        # It keeps its permissions by folder, so `parler connect` sets none and names these options.
        return [f"--allow-tool=parler({tool})" for tool in MESSAGING]


class ClineCli(Driver):
    program = "cline"
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

    def terminal(self, prompt: str) -> Sequence[str]:
        return ("-P", "openai-compatible", "-i", prompt)

    def text(self, result: str) -> str:
        try:
            return "".join(part["text"] for part in json.loads(result)["content"])
        except json.JSONDecodeError:
            # It cut out the middle, and this is what the model is given.
            return result


class Droid(Driver):
    program = "droid"
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
        # Else a run begins its first turn without waiting for servers, and its model may be offered none of our tools.
        return {".factory/settings.json": json.dumps({"customModels": [model], "blockOnMcpLoad": True})}

    def variables(self, url: str) -> Variables:
        # It asks its maker's server about a conversation before it goes on with it, and does so when that knows none.
        return {
            "FACTORY_API_KEY": "of-no-use",
            "FACTORY_API_BASE_URL": url,
            "FACTORY_APP_BASE_URL": url,
            "FACTORY_DROID_AUTO_UPDATE_ENABLED": "false",
        }

    def words(self, prompt: str) -> Sequence[str]:
        return ("exec", "-m", "custom:scripted-0", prompt)

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        (session,) = (home / ".factory" / "sessions").rglob("*.jsonl")
        return ("exec", "-m", "custom:scripted-0", "-s", session.stem, prompt)

    def finds(self, request: Request, tool: str) -> Block | None:
        name = self.tool.format(tool)
        return None if name in request.tools else calls("ToolSearch", query=f"select:{name}")


class Grok(Driver):
    program = "grok"
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

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("--continue", "-p", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        return (prompt,)


class Kimi(Driver):
    program = "kimi"
    asks = "No session yet"

    def files(self, url: str, folder: Path) -> Files:
        del url, folder
        return {".kimi-code/mcp.json": "{}"}

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

    def again(self, prompt: str, home: Path) -> Sequence[str]:
        del home
        return ("--continue", "-p", prompt)

    def terminal(self, prompt: str) -> Sequence[str]:
        del prompt
        return ("--auto",)

    def terminal_files(self, home: Path, folder: Path) -> Files:
        del home
        name = f"wd_{folder.name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        trusted = {"root": str(folder), "trustedAt": 1_796_000_000_000}
        return {f".kimi-code/workspace-trust/{name}": json.dumps(trusted)}

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

"""A real host that has Parler as a plugin, and no entry: added by the commands that its file in `configs/hosts` names.

What the plugin starts is the `parler` of the HOME, which is this checkout's. Not here: the plugin's files
(`configs.package.plugins`), what is said (the tests).
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Final

from configs.hosts import find_host
from configs.model import MESSAGING
from configs.package.about import about
from configs.package.files import put
from configs.package.plugins import plugin
from tests.e2e.hosts.drivers import ClaudeCode, Codex, Copilot, GeminiCli, QwenCode
from tests.e2e.hosts.sandbox import Sandbox
from tests.support.dialects.blocks import Block
from tests.support.processes import put_program


def plug(sandbox: Sandbox, answers: str = "", version: str = "") -> None:
    """Unpack the folder, of this version or of another, and type the commands that add it."""
    home = sandbox.somebody.user
    folder = home / "unpacked"
    put(folder, plugin(replace(about(), version=version) if version else about()))
    programs = home / ".local" / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    put_program(programs)
    host = find_host(sandbox.program.host)
    assert host.plugins is not None
    for line in host.plugins.adds:
        sandbox.asks(*shlex.split(line.replace("FOLDER", str(folder)))[1:], answers=answers)


def unplug(sandbox: Sandbox) -> None:
    """Type the commands that take it out."""
    host = find_host(sandbox.program.host)
    assert host.plugins is not None
    for line in host.plugins.removes:
        sandbox.asks(*shlex.split(line)[1:])


class ClaudeCodePlugged(ClaudeCode):
    tool = "mcp__plugin_parler_parler__{}"

    def connect(self, sandbox: Sandbox) -> None:
        plug(sandbox)
        settings = sandbox.somebody.user / ".claude" / "settings.json"
        said = json.loads(settings.read_text())
        said["permissions"] = {"allow": [*(self.tool.format(tool) for tool in MESSAGING), "Skill(parler:parler)"]}
        settings.write_text(json.dumps(said))

    def block(self, call: Block) -> Block:
        return call if call.tool == "Skill" else super().block(call)


class CodexPlugged(Codex):
    def connect(self, sandbox: Sandbox) -> None:
        plug(sandbox)
        config = sandbox.somebody.user / ".codex" / "config.toml"
        policy = '\n[plugins."parler@parler".mcp_servers.parler]\ndefault_tools_approval_mode = "approve"\n'
        config.write_text(config.read_text() + policy)

    def block(self, call: Block) -> Block:
        return call if call.tool == "exec_command" else super().block(call)


class GeminiPlugged(GeminiCli):
    def connect(self, sandbox: Sandbox) -> None:
        # It asks whether the folder is trusted, and then whether the extension is wanted.
        trusted = sandbox.somebody.user / ".gemini" / "trustedFolders.json"
        folders = {**json.loads(trusted.read_text()), str(sandbox.somebody.user / "unpacked"): "TRUST_FOLDER"}
        trusted.write_text(json.dumps(folders))
        plug(sandbox, answers="y\n")
        tools = json.dumps(list(MESSAGING))
        rule = f'[[rule]]\nmcpName = "parler"\ntoolName = {tools}\ndecision = "allow"\npriority = 100\n'
        sandbox.writes(".gemini/policies/parler.toml", rule)


class QwenPlugged(QwenCode):
    def connect(self, sandbox: Sandbox) -> None:
        plug(sandbox, answers="y\n")
        settings = sandbox.somebody.user / ".qwen" / "settings.json"
        said = json.loads(settings.read_text())
        said["permissions"] = {"allow": [f"mcp__parler__{tool}" for tool in MESSAGING]}
        settings.write_text(json.dumps(said))


class CopilotPlugged(Copilot):
    def connect(self, sandbox: Sandbox) -> None:
        plug(sandbox)


CLAUDE: Final = ClaudeCodePlugged()
CODEX: Final = CodexPlugged()
GEMINI: Final = GeminiPlugged()
QWEN: Final = QwenPlugged()
COPILOT: Final = CopilotPlugged()
